"""The file system of the virtual machines: busybox, modules, and the build's own executables."""

import os
import pathlib
import re
import shutil
import subprocess

# In the order in which they are loaded.
MODULES = """
    crc32_generic virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover
    net_failover virtio_net dummy udp_tunnel ip6_udp_tunnel configfs ib_core ib_uverbs iw_cm ib_cm
    rdma_cm rdma_ucm rdma_rxe
""".split()

LIBRARY_FOLDER = pathlib.Path("/usr/lib/x86_64-linux-gnu/libibverbs")
DRIVERS = pathlib.Path("/etc/libibverbs.d")


def libraries(program: pathlib.Path) -> list[pathlib.Path]:
    """The shared libraries that a program loads, the loader among them."""
    lines = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", lines)]


def find(program: str) -> pathlib.Path | None:
    """Where a program of this machine is; administrators' too."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return pathlib.Path(path) if path else None


def copy(source: pathlib.Path, root: pathlib.Path, target: pathlib.Path | None = None) -> None:
    """Copies a file to where it lies on this machine, or to `target`, below `root`."""
    place = root / (target or source).relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), place)


def copy_modules(kernel: pathlib.Path, root: pathlib.Path) -> None:
    """Copies the modules that the kernel does not contain, and the order to load them in."""
    found = {path.stem.replace("-", "_"): path for path in kernel.glob("lib/modules/**/*.ko")}
    names = [name for name in MODULES if name in found]
    for name in names:
        copy(found[name], root, pathlib.Path(f"/modules/{name}.ko"))
    if "rdma_rxe" not in names:
        raise FileNotFoundError(f"{kernel} has no module rdma_rxe")
    (root / "modules/order").write_text("".join(f"{name}\n" for name in names))


def make(
    folder: pathlib.Path, kernel: pathlib.Path, programs: list[pathlib.Path], scenarios: list[str]
) -> pathlib.Path:
    """Makes the initramfs.

    folder: where to work; kernel: the unpacked kernel package; programs: what goes into /bin;
    scenarios: the lines of /lab/scenarios.sh. Returns the file.
    """
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "lab", "modules", "proc", "sys", "dev", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    # Old libraries' paths lead to the same folders as the new.
    for name in ("lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")

    busybox = find("busybox")
    copy(busybox, root, pathlib.Path("/bin/busybox"))
    # The provider is opened by name, so no program's list of libraries has it.
    providers = list(LIBRARY_FOLDER.glob("librxe-*.so"))
    needed = set(providers)
    for source in [find("rdma"), *programs]:
        copy(source, root, pathlib.Path(f"/bin/{source.name}"))
        needed |= set(libraries(source))
    for provider in providers:
        needed |= set(libraries(provider))
    for library in needed:
        copy(library, root, usr(library))
    copy(DRIVERS / "rxe.driver", root)
    copy_modules(kernel, root)

    shutil.copy2(pathlib.Path(__file__).with_name("guest-init.sh"), root / "init")
    (root / "init").chmod(0o755)
    (root / "lab/scenarios.sh").write_text("".join(f"{line}\n" for line in scenarios))

    image = folder / "initramfs.cpio.gz"
    subprocess.run(
        f"find . | {busybox} cpio -o -H newc 2>/dev/null | gzip -1 > '{image}'",
        shell=True, check=True, cwd=root,
    )
    return image


def usr(path: pathlib.Path) -> pathlib.Path:
    """The same path below /usr, for the folders that lead there."""
    moved = any(path.is_relative_to(folder) for folder in ("/lib", "/lib64", "/sbin"))
    return pathlib.Path("/usr") / path.relative_to("/") if moved else path
