// `import MoriEP` is enough.
@_exported public import MoriDevice
@_exported public import MoriShmem
