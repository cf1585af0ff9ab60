"""A server of this example in its own processes, and a client of it; for the checks."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

EXAMPLE = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ["MOE_SERVER"]


def start(command, *options, launched=0, **streams):
    """A command of the program: one process, or as many as are `launched`, which are ranks then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = probe.getsockname()[1]
    processes = []
    for rank in range(launched or 1):
        environment = dict(os.environ)
        if launched:
            environment |= {
                "RANK": str(rank), "WORLD_SIZE": str(launched), "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(launched), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(meeting),
            }
        processes.append(
            subprocess.Popen(
                [PROGRAM, command, "--model", str(EXAMPLE / "Model/model.safetensors"), *options],
                env=environment, stdout=subprocess.PIPE, text=True, **streams))
    return processes


def run(command, *options, launched=0, seconds=60):
    """Runs a command to its end: exit status, standard output and standard error of each process."""
    processes = start(command, *options, launched=launched, stderr=subprocess.PIPE)
    try:
        # Short texts, which pipes hold: nobody waits for another one's to be read.
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs)]


class Server:
    """Ranks as threads of one process, or `launched` as processes of their own."""

    def __init__(self, *options, ranks=4, launched=False):
        options = ["--port", "0", *options]
        if not launched:
            options += ["--ranks", str(ranks)]
        self.processes = start("serve", *options, launched=ranks if launched else 0)
        line = self.processes[0].stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) ", line)
        if not found:
            self.kill()
            raise RuntimeError(f"the server said {line!r}")
        self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()

    def terminate(self, seconds=15):
        """Asks for a clean stop; the exit status of each process."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(seconds) for process in self.processes]

    def request(self, method, path, body=None, headers=None, timeout=30):
        """Status and body; JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            if isinstance(body, dict):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            text = response.read()
            if response.headers.get("content-type") == "application/json":
                return response.status, json.loads(text)
            return response.status, text.decode()

    def complete(self, **fields):
        return self.request("POST", "/v1/completions", fields)

    def stream(self, **fields):
        """The events of a streamed completion, as they come; the last is None for [DONE]."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/completions", json.dumps({"stream": True, **fields}))
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{response.status} {response.read()!r}")
            rest = b""
            while part := response.read1():
                *events, rest = (rest + part).split(b"\n\n")
                for event in events:
                    assert event.startswith(b"data: "), event
                    data = event.removeprefix(b"data: ")
                    yield None if data == b"[DONE]" else json.loads(data)

    def metric(self, name):
        """A metric without labels."""
        _, text = self.request("GET", "/metrics")
        return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


def wait_until(condition, what, seconds=20):
    """Polls; a wait that ends without its reason is a failure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come in {seconds} s")
