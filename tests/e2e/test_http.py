"""Clients that are no clients: bytes on a socket, and what the whole server makes of them."""
import gzip
import json
import re
import resource
import socket
import time

import pytest

PLAIN = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
NAMESPACE = "/v1/namespaces/nobody"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_answer(s):
    """Status, head in lower case, and body; status 0 when the connection ended instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            return 0, "", b""
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    head = head.decode().lower()
    size = int(re.search(r"\r\ncontent-length: (\d+)", head).group(1))
    while len(body) < size:
        more = s.recv(65536)
        assert more, "the answer was cut"
        body += more
    assert len(body) == size, "more than one answer"
    return int(head.split(" ")[1]), head, body


def refused(port, request):
    """Sends bytes that must be refused, and the connection ended; returns the status."""
    with connect(port) as s:
        s.sendall(request)
        status, head, body = read_answer(s)
        assert json.loads(body)["error"]
        assert "\r\nx-request-id: " in head
        assert "\r\nconnection: close" in head
        assert s.recv(1) == b""
        return status


def post(fields, body=b"", version="1.1"):
    return f"POST {NAMESPACE}/query HTTP/{version}\r\nHost: h\r\nContent-Type: application/json\r\n{fields}\r\n".encode() + body


CHUNKED = "Transfer-Encoding: chunked\r\n"
REFUSALS = {
    "two framings": (post("Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"), 400),
    "two lengths": (post("Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), 400),
    "a list of lengths": (post("Content-Length: 5, 5\r\n", b"hello"), 400),
    "a signed length": (post("Content-Length: +5\r\n", b"hello"), 400),
    "a length beyond 64 bits": (post("Content-Length: 18446744073709551617\r\n", b"h"), 400),
    "two codings": (post(CHUNKED + CHUNKED, b"0\r\n\r\n"), 501),
    "a coding behind chunked": (post("Transfer-Encoding: chunked, gzip\r\n"), 501),
    "a coding in HTTP/1.0": (post(CHUNKED, b"0\r\n\r\n", "1.0"), 400),
    "a space before a colon": (b"GET /health HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    "a folded line": (b"GET /health HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400),
    "bare line feeds": (b"GET /health HTTP/1.1\nHost: h\n\n", 400),
    "a bare carriage return": (b"GET /health HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", 400),
    "a NUL": (b"GET /health HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", 400),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /health HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
    "a chunk's size beyond 64 bits": (post(CHUNKED, b"10000000000000000\r\n"), 400),
    "a chunk larger than any body": (post(CHUNKED, b"ffffffffffffffff\r\n{"), 413),
    "a chunk that ends with a line feed": (post(CHUNKED, b"1\r\n{\n0\r\n\r\n"), 400),
    "a chunk longer than it says": (post(CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"), 400),
    "endless chunk extensions": (post(CHUNKED, b"1;" + b"x" * 5000), 400),
    "an endless trailer": (post(CHUNKED, b"0\r\nA: " + b"x" * 5000), 431),
    "an endless request line": (b"GET /" + b"a" * 100000, 414),
    "an endless field": (b"GET /health HTTP/1.1\r\nA: " + b"x" * 100000, 431),
    "endless fields": (b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 1000, 431),
    "HTTP/0.9": (b"GET /health\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "an absolute form of another scheme": (b"GET ftp://h/health HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "an absolute form without a host": (b"GET http:///health HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "the authority form": (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "a body of a GiB without a place to go": (b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n", 404),
    "a body of a GiB": (post("Content-Length: 1073741824\r\n"), 413),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_request_is_refused_as_json_and_ends_the_connection(server, name):
    request, status = REFUSALS[name]
    assert refused(server.port, request) == status


def test_the_absolute_form_of_a_target_is_read_as_its_path(server):
    with connect(server.port) as s:
        s.sendall(b"GET http://elsewhere.example:80/health HTTP/1.1\r\nHost: h\r\n\r\n")
        status, _, body = read_answer(s)
        assert (status, json.loads(body)["status"]) == (200, "healthy")
        s.sendall(b"GET http://h/health?verbose=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert read_answer(s)[0] == 400


def test_refusals_are_counted(server, client):
    def count():
        text = client.get("/metrics").content.decode()
        return sum(int(n) for n in re.findall(r'elacsym_http_requests_total\{lane="none",status="400"\} (\d+)', text))

    before = count()
    assert refused(server.port, b"\n") == 400
    assert count() == before + 1


def test_nothing_behind_a_refused_head_is_taken_for_a_request(server, client):
    hidden = b"PUT /v1/namespaces/smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    assert refused(server.port, post("Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + hidden)) == 400
    assert client.get("/v1/namespaces/smuggled").status == 404


def test_a_gzip_bomb_is_refused_and_the_connection_lives(server):
    bomb = gzip.compress(b" " * (70 << 20), 9)
    with connect(server.port) as s:
        s.sendall(f"POST {NAMESPACE}/upsert HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
                  f"Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb)
        assert read_answer(s)[0] == 413
        s.sendall(PLAIN)
        assert read_answer(s)[0] == 200


def test_clients_that_break_off_anywhere_leave_nothing_in_flight(server, client):
    request = post("Content-Length: 12\r\n", b'{"top_k": 1}')
    for end in range(1, len(request), 3):
        with connect(server.port) as s:
            s.sendall(request[:end])
    for _ in range(200):
        text = client.get("/metrics").content.decode()
        if "\nelacsym_http_in_flight 1\n" in text:  # the one that asks
            return
        time.sleep(0.05)
    pytest.fail("requests are still in flight")


def test_idle_and_dripping_clients_do_not_keep_others_from_an_answer(own_server):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = [connect(own_server.port) for _ in range(min(2000, hard - 500))]
    dripping = [connect(own_server.port) for _ in range(200)]
    text = b"GET /health HTTP/1.1\r\nHost: h"
    for i in range(len(text)):
        for s in dripping:
            s.sendall(text[i:i + 1])
        with connect(own_server.port) as s:
            s.sendall(PLAIN)
            assert read_answer(s)[0] == 200
    for s in idle[::100] + dripping[::20]:
        s.sendall(b"\r\n\r\n" if s in dripping else PLAIN)
        assert read_answer(s)[0] == 200
    for s in idle + dripping:
        s.close()


@pytest.mark.parametrize("method, tail", [("PUT", ""), ("POST", "/upsert"), ("POST", "/delete"), ("POST", "/query")])
def test_a_request_that_needs_a_body_and_announces_none_is_411(server, method, tail):
    with connect(server.port) as s:
        s.sendall(f"{method} {NAMESPACE}{tail} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        status, _, body = read_answer(s)
        assert status == 411
        assert "Content-Length" in json.loads(body)["error"]
        s.sendall(PLAIN)
        assert read_answer(s)[0] == 200


@pytest.mark.parametrize("method, tail, status", [("DELETE", "", 404), ("POST", "/compact", 404), ("GET", "", 404)])
def test_a_request_without_a_body_needs_no_length(server, method, tail, status):
    with connect(server.port) as s:
        s.sendall(f"{method} {NAMESPACE}{tail} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert read_answer(s)[0] == status
