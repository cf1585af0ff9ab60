#!/usr/bin/env python3
"""Checks the server over HTTP, as its clients see it; run by check.sh."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import unittest

import browser
from server import EXAMPLE, Server, run, wait_until

# Of the model this is known: it has read the licence.
PROMPT = "This program is free software"


def miss(test, what):
    """Skips a test that lacks something, except where everything is checked: there it has to be."""
    if os.environ.get("CI"):
        test.fail(what)
    test.skipTest(what)


class Answers(unittest.TestCase):
    """One server for all that leaves it as it was."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def tearDown(self):
        # Whatever it was asked: it goes on.
        status, health = self.server.request("GET", "/health")
        self.assertEqual((status, health["status"]), (200, "ok"))
        wait_until(lambda: self.server.metric("moe_requests_running") == 0, "an empty batch")

    def test_a_completion_has_the_form_of_openai(self):
        status, answer = self.server.complete(prompt=PROMPT, max_tokens=12, temperature=0)
        self.assertEqual(status, 200)
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(
            answer["usage"],
            {"prompt_tokens": len(PROMPT), "completion_tokens": 12, "total_tokens": len(PROMPT) + 12})
        self.assertEqual(len(answer["choices"][0]["text"]), 12)

    def test_a_stream_has_the_same_text_in_pieces(self):
        fields = {"prompt": PROMPT, "max_tokens": 80, "temperature": 0.8, "seed": 5}
        _, whole = self.server.complete(**fields)
        events = list(self.server.stream(**fields))
        self.assertIsNone(events[-1])
        choices = [event["choices"][0] for event in events[:-1]]
        self.assertEqual("".join(c["text"] for c in choices), whole["choices"][0]["text"])
        self.assertEqual(
            [c["finish_reason"] for c in choices],
            [None] * (len(choices) - 1) + [whole["choices"][0]["finish_reason"]])
        self.assertGreater(len(choices), 20)

    def test_a_seed_gives_the_same_text_again_and_another_one_another(self):
        def text(seed):
            _, answer = self.server.complete(prompt="The", max_tokens=60, temperature=1, seed=seed)
            return answer["choices"][0]["text"]
        self.assertEqual(text(1), text(1))
        self.assertNotEqual(text(1), text(2))

    def test_a_stop_sequence_ends_the_text_before_itself(self):
        fields = {"prompt": PROMPT, "max_tokens": 120, "temperature": 0}
        _, whole = self.server.complete(**fields)
        text = whole["choices"][0]["text"]
        stop = text[20:25]
        for asked in [stop, ["\x01\x02", stop]]:
            _, cut = self.server.complete(**fields, stop=asked)
            self.assertEqual(cut["choices"][0]["text"], text[: text.index(stop)])
            self.assertEqual(cut["choices"][0]["finish_reason"], "stop")
            pieces = list(self.server.stream(**fields, stop=asked))
            streamed = "".join(p["choices"][0]["text"] for p in pieces[:-1])
            self.assertEqual(streamed, text[: text.index(stop)])

    def test_malformed_requests_are_400_with_a_reason(self):
        for body, word in [
            ("", "JSON"), ("{", "JSON"), ("[]", "JSON"), ("\xff\xfe", "JSON"), ("[" * 5000, "JSON"),
            ({}, "prompt"), ({"prompt": 5}, "prompt"), ({"prompt": ["a", "b"]}, "prompt"),
            ({"prompt": "a\x00b"}, "NUL"), ({"prompt": "x" * 512}, "context"),
            ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
            ({"prompt": "x", "max_tokens": 512}, "511"),
            ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
            ({"prompt": "x", "max_tokens": 1e300}, "max_tokens"),
            ({"prompt": "x", "max_tokens": "9"}, "max_tokens"),
            ({"prompt": "x", "temperature": -1}, "temperature"),
            ({"prompt": "x", "temperature": "hot"}, "temperature"),
            ({"prompt": "x", "max_tokens": 1e300}, "1 to 511"),
            ({"prompt": "x", "temperature": 2.5}, "temperature is 2.5; legal is a number from 0 to 2"),
            ({"prompt": "x", "seed": 0.5}, "seed"), ({"prompt": "x", "stream": "yes"}, "stream"),
            ({"prompt": "x", "seed": 2**63}, f"from {-2**63} to {2**63 - 1}"),
            ({"prompt": "x", "stop": 1}, "stop"), ({"prompt": "x", "stop": [""]}, "stop"),
            ({"prompt": "x", "stop": ["a"] * 5}, "stop"), 
            ({"prompt": "x", "n": 2}, "n is 2, which this server does not do; legal is 1 or"),
            ({"prompt": "x", "top_p": 0.5}, "top_p is 0.5, which this server does not do; legal is 1 or"),
            ({"prompt": "x", "logprobs": 3}, "logprobs"), ({"prompt": "x", "echo": True}, "echo"),
            # What is not known is not left out silently.
            ({"prompt": "x", "top_k": 5}, "top_k"), ({"prompt": "x", "max_completion_tokens": 5}, "max_tokens"),
            ({"prompt": "x", "max_token": 5}, "legal are best_of, echo,"),
            ({"prompt": "x", "stream_options": {"include_usage": True}}, "stream_options"),
        ]:
            with self.subTest(body=str(body)[:40]):
                if isinstance(body, str):
                    body = body.encode("latin-1")
                status, answer = self.server.request("POST", "/v1/completions", body)
                self.assertEqual(status, 400)
                self.assertEqual(answer["error"]["type"], "invalid_request_error")
                self.assertIn(word, answer["error"]["message"])

    def test_fields_that_change_nothing_are_taken(self):
        fields = {"prompt": PROMPT, "max_tokens": 20, "temperature": 0}
        _, plain = self.server.complete(**fields)
        status, answer = self.server.complete(
            **fields, user="somebody", metadata={"a": 1}, n=1, best_of=1.0, echo=False, top_p=1,
            presence_penalty=0.0, frequency_penalty=0, logit_bias={}, suffix="", stream_options={},
            logprobs=None, top_k=None)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["choices"], plain["choices"])

    def test_all_digits_of_a_seed_count(self):
        texts = []
        for seed in [2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -2**63]:
            status, answer = self.server.complete(
                prompt="The", max_tokens=80, temperature=2, seed=seed)
            self.assertEqual(status, 200)
            texts.append(answer["choices"][0]["text"])
        self.assertEqual(len(set(texts)), len(texts))

    def test_what_is_not_there_is_404_and_says_what_is(self):
        for method, path, body in [
            ("GET", "/nothing", None), ("DELETE", "/v1/completions", None),
            ("POST", "/v1/completions", {"prompt": "x", "model": "gpt-4"}),
        ]:
            status, answer = self.server.request(method, path, body)
            self.assertEqual(status, 404)
            self.assertIn("legal", answer["error"]["message"])

    def test_oversized_bodies_are_413_announced_or_not(self):
        long = b"x" * 70_000
        status, answer = self.server.request("POST", "/v1/completions", long)
        self.assertEqual(status, 413)
        self.assertIn("65536", answer["error"]["message"])
        # http.client sends an iterator in chunks.
        status, _ = self.server.request("POST", "/v1/completions", iter([long]))
        self.assertEqual(status, 413)

    def test_chunks_that_are_none_are_400(self):
        status, answer = self.server.request(
            "POST", "/v1/completions", iter([b"xyz"]), {"transfer-encoding": "chunked"})
        self.assertEqual(status, 400)
        self.assertIn("body", answer["error"]["message"])

    def test_bytes_that_are_no_http_do_no_harm(self):
        for bytes in [b"\x00" * 100, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"A" * 100_000]:
            with socket.create_connection(("127.0.0.1", self.server.port), 5) as raw:
                try:
                    raw.sendall(bytes)
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(4096):
                        pass
                except (ConnectionError, TimeoutError):
                    pass

    def test_a_client_that_goes_away_frees_its_place(self):
        for streams in [True, False]:
            fields = {"prompt": "x", "max_tokens": 510, "temperature": 1, "stream": streams}
            body = json.dumps(fields).encode()
            made = self.server.metric("moe_tokens_total")
            with socket.create_connection(("127.0.0.1", self.server.port)) as raw:
                raw.sendall(
                    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s"
                    % (len(body), body))
                wait_until(lambda: self.server.metric("moe_tokens_total") > made, "a first token")
            wait_until(lambda: self.server.metric("moe_requests_running") == 0, "a free place", 2)

    def test_models_and_metrics_are_listed(self):
        _, models = self.server.request("GET", "/v1/models")
        self.assertEqual([model["id"] for model in models["data"]], ["model"])
        _, text = self.server.request("GET", "/metrics")
        for line in text.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) moe_\w+ .+|moe_\w+(\{[^}]*\})? [-+.e\d]+)$')
        self.assertEqual(self.server.metric("moe_active_ranks"), 4)

    def test_the_page_completes_in_a_browser(self):
        if not browser.find():
            miss(self, f"none of {', '.join(browser.NAMES)} is installed")
        _, answer = self.server.complete(prompt=PROMPT, max_tokens=300, temperature=0)
        with browser.Page(f"http://127.0.0.1:{self.server.port}/") as page:
            def shows(script, what):
                wait_until(lambda: page.evaluate(script), what)
            shows("document.getElementById('state')?.textContent == 'ok: 4 of 4 ranks'", "its health")
            page.evaluate("document.getElementById('prompt').select()")
            page.call("Input.insertText", text=PROMPT)
            page.evaluate("document.getElementById('tokens').value = 300")
            page.evaluate("document.getElementById('go').click()")
            shows("document.body.dataset.state == 'done'", "the text")
            shown = page.evaluate("document.getElementById('text').textContent")
            self.assertEqual(shown, PROMPT + answer["choices"][0]["text"])
            if shot := os.environ.get("SCREENSHOT"):
                page.screenshot(shot)
            # What the server refuses is said on the page.
            page.evaluate("document.getElementById('tokens').value = 9999")
            page.evaluate("document.getElementById('form').noValidate = true")
            page.evaluate("document.getElementById('go').click()")
            shows("document.getElementById('speed').textContent.includes('max_tokens')", "a reason")


class SlowClients(unittest.TestCase):
    """A server with little patience."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--request-timeout", "1", "--write-timeout", "1", ranks=1)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def connect(self):
        raw = socket.create_connection(("127.0.0.1", self.server.port), 20)
        self.addCleanup(raw.close)
        return raw

    def drip(self, raw, seconds=20):
        """Sends a byte now and then until the other side has closed; what it said, and when."""
        begin, answer = time.monotonic(), b""
        raw.settimeout(0.2)
        while time.monotonic() < begin + seconds:
            try:
                raw.sendall(b" ")
                part = raw.recv(4096)
                if not part:
                    return answer.decode(), time.monotonic() - begin
                answer += part
            except TimeoutError:
                pass
            except ConnectionError:
                return answer.decode(), time.monotonic() - begin
        self.fail(f"it was not closed in {seconds} s; it said {answer!r}")

    def test_a_body_that_drips_is_408_and_the_connection_closed(self):
        for framing in [b"content-length: 1000", b"transfer-encoding: chunked"]:
            with self.subTest(framing=framing):
                raw = self.connect()
                raw.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n%s\r\n\r\n" % framing)
                if b"chunked" in framing:
                    raw.sendall(b"3e8\r\n")
                answer, seconds = self.drip(raw)
                self.assertTrue(answer.startswith("HTTP/1.1 408 "), answer)
                self.assertIn("connection: close", answer.lower())
                self.assertIn("within the 1 s", answer)
                self.assertGreater(seconds, 0.9)
        _, text = self.server.request("GET", "/metrics")
        self.assertIn('moe_http_responses_total{status="408"} 2\n', text)

    def test_a_body_that_nobody_reads_holds_no_connection_up(self):
        raw = self.connect()
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        answer, _ = self.drip(raw)
        self.assertTrue(answer.startswith("HTTP/1.1 200 "), answer)

    def test_a_connection_that_is_kept_has_time_again_with_each_request(self):
        fields = json.dumps({"prompt": "x", "max_tokens": 2}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        self.addCleanup(connection.close)
        connection.connect()
        socket_ = connection.sock
        for _ in range(3):
            connection.request("POST", "/v1/completions", fields)
            response = connection.getresponse()
            self.assertEqual((response.status, len(response.read()) > 0), (200, True))
            time.sleep(1.2)
        self.assertIs(connection.sock, socket_)

    def test_a_client_that_takes_nothing_of_its_answers_is_left(self):
        body = json.dumps({"prompt": "x", "max_tokens": 511, "temperature": 2, "stream": True}).encode()
        request = (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s"
                   % (len(body), body))
        raw = socket.socket()
        self.addCleanup(raw.close)
        # The system takes little in its place.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", self.server.port))
        number = 200
        raw.sendall(request * number)
        # Once buffers are full no more is asked of the model; then the deadline passes.
        made = -1
        while (now := self.server.metric("moe_tokens_total")) != made:
            made = now
            time.sleep(2.5)
        self.assertEqual(self.server.metric("moe_requests_running"), 0)
        # Whoever reads on now gets what was on its way, and no further answer.
        answers = b""
        with contextlib.suppress(ConnectionError):
            while part := raw.recv(1 << 16):
                answers += part
        self.assertLess(answers.count(b"HTTP/1.1 200 OK"), number)
        self.assertGreater(answers.count(b"HTTP/1.1 200 OK"), 0)


class Commands(unittest.TestCase):
    """What the program does without clients."""

    def refused(self, *arguments, says, launched=0):
        begin = time.monotonic()
        for status, output, error in run(*arguments, launched=launched, seconds=30):
            self.assertNotEqual(status, 0)
            self.assertGreater(status, 0, f"ended by a signal: {error}")
            self.assertIn(says, error)
            self.assertEqual(output, "")
        return time.monotonic() - begin

    def test_a_text_that_does_not_fit_is_refused(self):
        for tokens, prompt, says in [
            (2**63 - 1, "x", "legal are 1 to 511"), (512, "x", "legal are 1 to 511"),
            (1, "x" * 512, "legal are up to 511"), (0, "x", "legal is 1 or more"),
        ]:
            with self.subTest(tokens=tokens):
                self.refused("generate", "--tokens", str(tokens), prompt, says=says)
        self.refused("generate", "--tokens", str(2**63 - 1), "x", says="legal are 1 to 511", launched=2)
        [(status, output, _)] = run("generate", "--ranks", "2", "--tokens", "8", "This program is")
        self.assertEqual((status, len(output)), (0, 9))

    def test_numbers_of_ranks_that_cannot_be_are_refused(self):
        for options, says in [
            (["--ranks", "65"], "legal are 0 to 64"), (["--ranks-per-node", "5"], "legal are 1 to"),
            (["--ranks", "2", "--ranks-per-node", "3"], "legal are 1 to the number of ranks, 2"),
            (["--ranks-per-node", "0"], "legal are 1 to"), (["--batch", "0"], "legal are 1 to 1024"),
        ]:
            with self.subTest(options=options):
                self.refused("generate", *options, "x", says=says)
        self.refused("generate", "--ranks", "3", "x", says="a launcher started 2", launched=2)
        self.refused("generate", "--ranks-per-node", "3", "x", says="legal are 1 to 2", launched=2)
        results = run("generate", "--ranks", "2", "--tokens", "4", "x", launched=2)
        self.assertEqual([status for status, _, _ in results], [0, 0])

    def test_a_benchmark_of_more_sequences_than_may_wait_elsewhere_ends_well(self):
        [(status, output, error)] = run(
            "bench", "--ranks", "3", "--batch", "80", "--tokens", "4", "--repeats", "1")
        self.assertEqual(status, 0, error)
        self.assertIn("texts are the same", output)


class Load(unittest.TestCase):
    def test_a_load_of_wrk_is_answered_without_an_error(self):
        if not shutil.which("wrk"):
            miss(self, "wrk is not installed")
        with Server() as server:
            script = EXAMPLE / "Tests/Server/load.lua"
            url = f"http://127.0.0.1:{server.port}/v1/completions"
            output = subprocess.run(
                ["wrk", "-t1", "-c24", "-d4s", "--timeout", "20s", "--latency", "-s", script, url],
                capture_output=True, text=True, timeout=60, check=True).stdout
            print(output)
            self.assertNotIn("wrong answer", output)
            self.assertNotIn("Non-2xx", output)
            self.assertNotIn("Socket errors", output)
            self.assertGreater(int(re.search(r"(\d+) requests in", output)[1]), 20)

    def test_an_overload_is_429_and_the_rest_is_answered(self):
        with Server("--batch", "2", "--queue", "4", ranks=2) as server:
            ask = lambda _: server.complete(prompt="x", max_tokens=100, temperature=0)
            with concurrent.futures.ThreadPoolExecutor(40) as pool:
                answers = list(pool.map(ask, range(40)))
            statuses = [status for status, _ in answers]
            self.assertEqual(set(statuses), {200, 429})
            for status, answer in answers:
                if status == 429:
                    self.assertEqual(answer["error"]["type"], "rate_limit_exceeded")
            texts = {a["choices"][0]["text"] for status, a in answers if status == 200}
            self.assertEqual(len(texts), 1)


class Processes(unittest.TestCase):
    """Ranks that are processes."""

    def test_ranks_of_their_own_say_the_same_and_stop_cleanly(self):
        fields = {"prompt": PROMPT, "max_tokens": 60, "temperature": 0.5, "seed": 3}
        with Server(ranks=1) as threads, Server(ranks=3, launched=True) as processes:
            self.assertEqual(threads.complete(**fields)[1]["choices"],
                             processes.complete(**fields)[1]["choices"])
            self.assertEqual(processes.terminate(), [0, 0, 0])
            self.assertEqual(threads.terminate(), [0])

    def test_a_request_that_runs_is_finished_before_a_clean_stop(self):
        with Server(ranks=2) as server:
            stream = server.stream(prompt="x", max_tokens=300, temperature=0)
            next(stream)
            self.assertEqual(server.terminate(), [0])
            self.assertIsNone(list(stream)[-1])

    def test_ranks_that_wait_for_requests_cost_little(self):
        with Server(ranks=3, launched=True) as server:
            before, begin = server.metric("moe_steps_total"), time.monotonic()
            time.sleep(3)
            steps = server.metric("moe_steps_total") - before
            # Rank 0 comes twice a second, so that nobody's deadline passes, and no other adds to it.
            self.assertGreater(steps, 0)
            self.assertLess(steps, 2 * (time.monotonic() - begin) + 2)

    def test_ranks_that_fail_for_good_end_the_server_after_their_clients_heard_of_it(self):
        with Server(ranks=3, launched=True) as server:
            fields = {"prompt": "x", "max_tokens": 510, "temperature": 2, "seed": 2}
            pool = self.enterContext(concurrent.futures.ThreadPoolExecutor(1))
            whole = pool.submit(lambda: server.complete(**fields))
            stream = server.stream(**fields)
            next(stream)
            wait_until(lambda: server.metric("moe_requests_running") == 2, "both requests")
            # It has six descriptors left: enough for an event loop, and not for the memory and the
            # connections that going on without a rank takes.
            pid = server.processes[0].pid
            used = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
            limit = sorted(set(range(1024)) - used)[6]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
            server.processes[2].kill()
            rest = list(stream)
            self.assertIn("rank", rest[-2]["error"]["message"])
            self.assertIsNone(rest[-1])
            self.assertEqual(whole.result(30)[0], 503)
            for process in server.processes[:2]:
                self.assertGreater(process.wait(60), 0)

    def test_a_rank_that_is_killed_costs_what_was_under_way_and_its_experts(self):
        with Server(ranks=4, launched=True) as server:
            ask = lambda number: server.complete(
                prompt=PROMPT, max_tokens=300, temperature=1, seed=number)
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                running = [pool.submit(ask, number) for number in range(16)]
                wait_until(lambda: server.metric("moe_tokens_total") > 100, "a load")
                server.processes[2].kill()
                killed = time.monotonic()
                answers = [request.result(30) for request in running]
            print(f"all 16 clients had an answer {time.monotonic() - killed:.2f} s after the kill")
            # No client hangs, and none gets a text that is not whole for one that is.
            for status, answer in answers:
                self.assertIn(status, [200, 503])
                if status == 503:
                    self.assertIn("rank", answer["error"]["message"])
            self.assertIn(503, [status for status, _ in answers])
            wait_until(
                lambda: server.request("GET", "/health")[1]["status"] == "degraded", "its going on")
            print(f"and the others went on {time.monotonic() - killed:.2f} s after it")
            _, health = server.request("GET", "/health")
            self.assertEqual(health["active_ranks"], [0, 1, 3])
            self.assertEqual(health["missing_experts"], [4, 5])
            self.assertEqual(server.metric("moe_rank_failures_total"), 1)
            status, answer = server.complete(prompt=PROMPT, max_tokens=40, temperature=0)
            self.assertEqual(status, 200)
            self.assertIn(answer["choices"][0]["finish_reason"], ["stop", "length"])
            # A stream that the second loss cuts ends with an error in words.
            stream = server.stream(prompt=PROMPT, max_tokens=480, temperature=1)
            next(stream)
            server.processes[3].kill()
            rest = list(stream)
            self.assertIn("rank", rest[-2]["error"]["message"])
            self.assertIsNone(rest[-1])
            wait_until(lambda: server.request("GET", "/health")[0] == 200, "its going on again")
            self.assertEqual(server.complete(prompt="x", max_tokens=4)[0], 200)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
