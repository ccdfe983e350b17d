#!/usr/bin/python3
"""An S3 store for tests: one bucket in memory, strict about what it is asked, and told to
misbehave line by line.

  s3sim.py [--bucket NAME] [--region R] [--key ID] [--secret S] [--token T]
           [--certificate FILE --private-key FILE]   (then it speaks TLS)

Prints its port, then obeys lines of JSON on standard input, answering each with one line:
  {"do": "reset"}                       empty the bucket, forget faults and counts
  {"do": "fault", "fault": F, ...}      add a rule, see RULE below
  {"do": "set", "NAME": VALUE, ...}     settings, see Store
  {"do": "counts"}                      requests served so far, by kind of operation, and
                                        bytes of their bodies: "received", "sent"
  {"do": "hold", "key": K}              is the object there? its size, or null
  {"do": "upload", "key": K, "age_s": n}    an upload in parts that somebody began then
  {"do": "uploads"}                     the keys of all uploads that were not ended
It ends with its input.

RULE: {"fault": F, "op": "create|put|get|head|list|delete|deletes|begin|part|complete|
abort|uploads|any", "skip": n, "times": n, ...}. F is one of
  status        answer "status" with "code" and "headers", do nothing
  after_status  do it, then answer "status"
  reset_before  break the connection, do nothing
  reset_after   do it, break the connection
  reset_body    do it, send half of the answer, break the connection
  late          break the connection now, do it after "ms"
  garble        do it, answer with bytes that make no sense and the right headers
  page          do it, answer 200 with a web page, as a proxy might
  short         do it, announce the whole body, send less, close
  torn          do it, answer with the first half of the body as if it were all
  delay         wait "ms", then do it
  twice         wait "ms" if told so, do it, send the answer two times, or once and
                once more "apart" ms later, which is then counted as "twice"
  hang          read everything, never answer

Every request is checked: Signature Version 4 over exactly the headers and bytes that
arrived, x-amz-content-sha256, Content-MD5, x-amz-checksum-crc32c, a Content-Length."""

import argparse
import asyncio
import base64
import datetime
import hashlib
import hmac
import itertools
import json
import re
import ssl
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

HEAD_MAX = 64 << 10
PIECE = 16 << 10
CRC_TABLE = []
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = _c >> 1 ^ (0x82F63B78 if _c & 1 else 0)
    CRC_TABLE.append(_c)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def crc_header(data):
    return base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()


class Early(Exception):
    """A no before the body; the connection ends with it."""


class Refused(Exception):
    def __init__(self, status, code, message="refused", headers=()):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message
        self.headers = list(headers)


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        path, _, self.raw_query = target.partition("?")
        self.raw_path = path
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(self.raw_query, keep_blank_values=True))
        self.key = ""
        self.op = "other"


class Store:
    def __init__(self, args):
        self.args = args
        self.objects = {}
        self.sums = {}
        self.uploads = {}
        self.total = 0
        self.rules = []
        self.counts = {}
        self.ids = itertools.count(1)
        self.creates = {}               # so many of a key while racy_condition
        # settings
        self.ignore_condition = False   # as stores that never heard of it
        self.racy_condition = False     # checks, waits for another to check, then acts
        self.no_deletes = False         # DeleteObjects is not implemented
        self.unordered = False          # lists as it likes
        self.by_folder = False          # lists folder by folder, as SeaweedFS does
        self.ends_early = False         # a list that starts in a folder, as MinIO may
        self.page_max = 1000
        self.skew_s = 0                 # our clock minus the real one
        self.keep_checks = True         # CRC32C is slow in Python
        self.checks_md5 = True
        self.echoes = True              # tells the checksum that an object was put with
        self.early = False              # says no before it has read a body it need not have
        self.tokens = [args.token] if args.token else None
        self.fail_keys = []             # DeleteObjects fails for these
        self.latency_ms = 0
        self.bytes_per_s = 0            # of bodies, each way; 0: as fast as it goes
        self.read_only = False          # these keys may not write
        self.tells_region = True        # when it is asked with another
        self.tells_date = True
        self.server = "s3sim"

    # ---- who asks ----

    def check_signature(self, r):
        h = r.headers
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request,"
            r"SignedHeaders=([^,]+),Signature=([0-9a-f]{64})", h.get("authorization", ""))
        if not match:
            raise Refused(403, "AccessDenied", "no signature")
        key, day, region, names, signature = match.groups()
        if key != self.args.key:
            raise Refused(403, "InvalidAccessKeyId", "no such access key")
        if region != self.args.region:
            if not self.tells_region:
                raise Refused(400, "AuthorizationHeaderMalformed", "the region is wrong")
            raise Refused(400, "AuthorizationHeaderMalformed",
                          f"the region '{region}' is wrong; expecting '{self.args.region}'",
                          [("x-amz-bucket-region", self.args.region)])
        names = names.split(";")
        must = {"host", *[n for n in h if n.startswith("x-amz-")],
                *[n for n in h if n in ("content-md5", "content-type", "if-none-match")]}
        if not must <= set(names) or names != sorted(names):
            raise Refused(403, "AccessDenied", f"unsigned: {sorted(must - set(names))}")
        date = h["x-amz-date"]
        asked = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ")
        now = datetime.datetime.utcnow() + datetime.timedelta(seconds=self.skew_s)
        if abs((asked - now).total_seconds()) > 900 or date[:8] != day:
            raise Refused(403, "RequestTimeTooSkewed", "the difference is too large")
        query = "&".join(sorted(
            f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}"
            for k, v in urllib.parse.parse_qsl(r.raw_query, keep_blank_values=True)))
        if query != r.raw_query:
            raise Refused(400, "InvalidURI", f"not in canonical form: {r.raw_query}")
        canonical = "\n".join([
            r.method, urllib.parse.quote(r.path, safe="/-_.~"), query,
            *[f"{n}:{' '.join(h[n].split())}" for n in names], "", ";".join(names),
            h["x-amz-content-sha256"]])
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        scope = f"{day}/{region}/s3/aws4_request"
        secret = ("AWS4" + self.args.secret).encode()
        for part in (day, region, "s3", "aws4_request"):
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        wanted = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, signature):
            raise Refused(403, "SignatureDoesNotMatch", "the signatures differ")
        if self.tokens is not None and h.get("x-amz-security-token") not in self.tokens:
            raise Refused(400, "ExpiredToken", "the token has expired")

    def check_body(self, r):
        h = r.headers
        sha = h.get("x-amz-content-sha256")
        if sha is None:
            raise Refused(400, "InvalidRequest", "no x-amz-content-sha256")
        if sha != "UNSIGNED-PAYLOAD" and sha != hashlib.sha256(r.body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")
        md5 = h.get("content-md5")
        if md5 and self.checks_md5 and md5 != base64.b64encode(hashlib.md5(r.body).digest()).decode():
            raise Refused(400, "BadDigest")
        crc = h.get("x-amz-checksum-crc32c")
        if crc and self.keep_checks and crc != crc_header(r.body):
            raise Refused(400, "BadDigest", "crc32c")

    def check_bucket(self, r):
        host = r.headers.get("host", "").split(":")[0]
        if host.startswith(self.args.bucket + "."):
            bucket, key = self.args.bucket, r.path[1:]
        else:
            bucket, _, key = r.path[1:].partition("/")
        if bucket != self.args.bucket:
            raise Refused(404, "NoSuchBucket", "the bucket does not exist")
        r.key = key

    @staticmethod
    def name_op(r):
        q = r.query
        if not r.key:
            return "deletes" if "delete" in q else "uploads" if "uploads" in q else "list"
        if r.method == "PUT":
            if "partNumber" in q:
                return "part"
            return "create" if "if-none-match" in r.headers else "put"
        if r.method == "POST":
            return "begin" if "uploads" in q else "complete"
        if r.method == "DELETE":
            return "abort" if "uploadId" in q else "delete"
        return {"GET": "get", "HEAD": "head"}.get(r.method, "other")

    # ---- what it does; each gives (status, headers, body) ----

    async def serve(self, r):
        self.check_signature(r)
        self.check_body(r)
        if self.read_only and r.op not in ("get", "head", "list"):
            raise Refused(403, "AccessDenied", "Access Denied.")
        return await getattr(self, "do_" + r.op)(r)

    async def do_other(self, r):
        raise Refused(405, "MethodNotAllowed")

    async def do_create(self, r):
        if r.headers.get("if-none-match") != "*":
            raise Refused(501, "NotImplemented", "only If-None-Match: *")
        taken = r.key in self.objects and not self.ignore_condition
        if self.racy_condition:
            await self.another_creates(r.key)
        if taken:
            raise Refused(412, "PreconditionFailed", "something is there")
        return await self.do_put(r)

    async def another_creates(self, key):
        """Until a second create of the key has looked too, half a second at most."""
        self.creates[key] = self.creates.get(key, 0) + 1
        end = time.monotonic() + 0.5
        while self.creates[key] < 2 and time.monotonic() < end:
            await asyncio.sleep(0.005)

    async def do_put(self, r):
        self.objects[r.key] = r.body
        self.sums.pop(r.key, None)
        headers = [self.etag(r.body)]
        if "x-amz-checksum-crc32c" in r.headers and self.echoes:
            self.sums[r.key] = ("x-amz-checksum-crc32c", r.headers["x-amz-checksum-crc32c"])
            headers.append(self.sums[r.key])
        return 200, headers, b""

    @staticmethod
    def etag(body):
        return "ETag", f'"{hashlib.md5(body).hexdigest()}"'

    def found(self, r):
        if r.key not in self.objects:
            raise Refused(404, "NoSuchKey", "the key does not exist")
        return self.objects[r.key]

    async def do_get(self, r):
        body = self.found(r)
        wanted = r.headers.get("range")
        if not wanted:
            told = r.headers.get("x-amz-checksum-mode") == "ENABLED" and r.key in self.sums
            return 200, [self.etag(body), *([self.sums[r.key]] if told else [])], body
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        first, last = int(match[1]), int(match[2])
        if first >= len(body) or last < first:
            raise Refused(416, "InvalidRange", "not satisfiable")
        last = min(last, len(body) - 1)
        return (206, [("Content-Range", f"bytes {first}-{last}/{len(body)}"), self.etag(body)],
                body[first:last + 1])

    async def do_head(self, r):
        return 200, [self.etag(self.found(r))], self.found(r)

    async def do_delete(self, r):
        self.objects.pop(r.key, None)
        return 204, [], b""

    async def do_deletes(self, r):
        if self.no_deletes:
            raise Refused(501, "NotImplemented")
        if "content-md5" not in r.headers:
            raise Refused(400, "InvalidRequest", "Content-MD5 is missing")
        errors = ""
        for key in re.findall(r"<Key>([^<]*)</Key>", r.body.decode()):
            if key in self.fail_keys:
                errors += (f"<Error><Key>{key}</Key><Code>InternalError</Code>"
                           "<Message>try again</Message></Error>")
            else:
                self.objects.pop(key, None)
        return 200, [], f"<DeleteResult>{errors}</DeleteResult>".encode()

    async def do_list(self, r):
        q = r.query
        if q.get("list-type") != "2":
            raise Refused(501, "NotImplemented", "only version 2")
        prefix, delimiter = q.get("prefix", ""), q.get("delimiter", "")
        after = q.get("continuation-token", q.get("start-after", ""))
        room = min(int(q.get("max-keys", 1000)), self.page_max)
        names, token = [], None
        for key in sorted(self.objects, key=self.place):
            if not key.startswith(prefix):
                continue
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if at < 0 else key[:at + 1]
            if self.place(name) <= self.place(after) or (names and names[-1] == name):
                continue
            if self.by_folder and after and name.startswith(after + "/"):
                continue
            if len(names) == room:
                token = names[-1]
                break
            names.append(name)
        if self.ends_early and "/" in q.get("start-after", "")[len(prefix):]:
            names, token = names[:1], None
        shown = reversed(names) if self.unordered else names
        quote = urllib.parse.quote if q.get("encoding-type") == "url" else escape
        xml = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult '
        xml += 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        xml += f"<Name>{self.args.bucket}</Name><IsTruncated>{str(bool(token)).lower()}"
        xml += "</IsTruncated>"
        for name in shown:
            tag = (f"<Contents><Key>{quote(name)}</Key><Size>0</Size></Contents>"
                   if name in self.objects else
                   f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>")
            xml += tag
        if token:
            xml += f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
        if q.get("encoding-type"):
            xml += "<EncodingType>url</EncodingType>"
        return 200, [], (xml + "</ListBucketResult>").encode()

    def place(self, name):
        """What decides the order of a list."""
        return name.encode().replace(b"/", b"\0") if self.by_folder else name.encode()

    async def do_begin(self, r):
        upload = self.begin(r.key, 0)
        return 200, [], (f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                         "</InitiateMultipartUploadResult>").encode()

    def begin(self, key, age_s):
        upload = f"upload-{next(self.ids):04}"
        began = datetime.datetime.utcnow() + datetime.timedelta(seconds=self.skew_s - age_s)
        self.uploads[upload] = (key, {}, began.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        return upload

    async def do_uploads(self, r):
        q = r.query
        behind = (q.get("key-marker", ""), q.get("upload-id-marker", ""))
        known = sorted((u[0], upload, u[2]) for upload, u in self.uploads.items()
                       if u[0].startswith(q.get("prefix", "")))
        left = [u for u in known if u[:2] > behind]
        page = left[:min(int(q.get("max-uploads", 1000)), self.page_max)]
        xml = f"<ListMultipartUploadsResult><Bucket>{self.args.bucket}</Bucket>"
        for key, upload, began in page:
            xml += (f"<Upload><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
                    f"<Initiated>{began}</Initiated></Upload>")
        if len(page) < len(left):
            xml += (f"<NextKeyMarker>{escape(page[-1][0])}</NextKeyMarker>"
                    f"<NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>")
        xml += f"<IsTruncated>{str(len(page) < len(left)).lower()}</IsTruncated>"
        return 200, [], (xml + "</ListMultipartUploadsResult>").encode()

    def upload_of(self, r):
        upload = self.uploads.get(r.query.get("uploadId"))
        if not upload or upload[0] != r.key:
            raise Refused(404, "NoSuchUpload", "the upload does not exist")
        return upload[1]

    async def do_part(self, r):
        self.upload_of(r)[int(r.query["partNumber"])] = r.body
        return 200, [("ETag", f'"{hashlib.md5(r.body).hexdigest()}"')], b""

    async def do_complete(self, r):
        parts = self.upload_of(r)
        wanted = re.findall(r"<ETag>([^<]*)</ETag>.*?<PartNumber>(\d+)</PartNumber>",
                            r.body.decode())
        body = b""
        for number, (etag, name) in enumerate(wanted, 1):
            part = parts.get(int(name))
            digest = hashlib.md5(part or b"").hexdigest()
            if part is None or int(name) != number or digest not in etag:
                raise Refused(400, "InvalidPart", "one part is not what was uploaded")
            if number < len(wanted) and len(part) < 5 << 20:
                raise Refused(400, "EntityTooSmall")
            body += part
        if not wanted:
            raise Refused(400, "MalformedXML")
        self.objects[r.key] = body
        del self.uploads[r.query["uploadId"]]
        return 200, [], b"<CompleteMultipartUploadResult/>"

    async def do_abort(self, r):
        self.upload_of(r)
        del self.uploads[r.query["uploadId"]]
        return 204, [], b""

    # ---- faults ----

    def rule_for(self, r):
        for rule in self.rules:
            if rule.get("op", "any") not in ("any", r.op):
                continue
            if rule.get("skip", 0) > 0:
                rule["skip"] -= 1
                continue
            rule["times"] = rule.get("times", 1) - 1
            if rule["times"] == 0:
                self.rules.remove(rule)
            return rule
        return {"fault": "none"}

    def command(self, line):
        c = json.loads(line)
        do = c.pop("do")
        if do == "reset":
            self.__init__(self.args)
        elif do == "fault":
            self.rules.append(c)
        elif do == "set":
            for name, value in c.items():
                getattr(self, name)
                setattr(self, name, value)
        elif do == "counts":
            return json.dumps({**self.counts, "uploads": len(self.uploads),
                               "total": self.total})
        elif do == "upload":
            self.begin(c["key"], c["age_s"])
        elif do == "uploads":
            return json.dumps(sorted(u[0] for u in self.uploads.values()))
        elif do == "hold":
            body = self.objects.get(c["key"])
            return json.dumps(None if body is None else len(body))
        else:
            raise ValueError(do)
        return "ok"


class Broken(Exception):
    pass


class Connection:
    def __init__(self, store, reader, writer):
        self.store, self.reader, self.writer = store, reader, writer

    async def read_request(self):
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            if name.lower() in headers:
                raise Refused(400, "InvalidRequest", f"two of {name}")
            headers[name.lower()] = value.strip()
        if version != "HTTP/1.1" or "host" not in headers:
            raise Refused(400, "InvalidRequest")
        if "transfer-encoding" in headers:
            raise Refused(501, "NotImplemented", "Transfer-Encoding")
        if method in ("PUT", "POST") and "content-length" not in headers:
            raise Refused(411, "MissingContentLength")
        if headers.get("expect", "").lower() == "100-continue":
            key = target.split("/", 2)[-1]
            if self.store.early and "if-none-match" in headers and key in self.store.objects:
                raise Early
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(headers.get("content-length", 0))
        return Request(method, target, headers, await self.read_body(size))

    async def read_body(self, size):
        if not self.store.bytes_per_s:
            return await self.reader.readexactly(size)
        body, start = bytearray(), time.monotonic()
        while len(body) < size:
            body += await self.reader.readexactly(min(PIECE, size - len(body)))
            await self.travel(start, len(body))
        return bytes(body)

    async def send(self, data):
        if not self.store.bytes_per_s:
            self.writer.write(data)
        else:
            start = time.monotonic()
            for at in range(0, len(data), PIECE):
                self.writer.write(data[at:at + PIECE])
                await self.travel(start, min(at + PIECE, len(data)))
        await self.writer.drain()

    def date(self):
        now = datetime.datetime.utcnow() + datetime.timedelta(seconds=self.store.skew_s)
        return now.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def encode(self, r, status, headers, body):
        lines = [f"HTTP/1.1 {status} X", f"Server: {self.store.server}",
                 *[f"{n}: {v}" for n, v in headers]]
        if self.store.tells_date:
            lines.append(f"Date: {self.date()}")
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        if r and r.method == "HEAD":
            body = b""
        return "\r\n".join(lines).encode() + b"\r\n\r\n", body

    async def outcome(self, r):
        try:
            return await self.store.serve(r)
        except Refused as e:
            return self.refusal(e)

    @staticmethod
    def refusal(e):
        body = (f"<Error><Code>{e.code}</Code><Message>{escape(e.message)}</Message>"
                "</Error>").encode()
        return e.status, e.headers, body

    async def travel(self, start, size):
        """Until so many bytes are through that set out at the start. A busy machine makes
        single pieces late and not, one after the other, the whole."""
        if self.store.bytes_per_s:
            due = start + size / self.store.bytes_per_s
            await asyncio.sleep(max(0, due - time.monotonic()))

    def count(self, name, amount):
        self.store.counts[name] = self.store.counts.get(name, 0) + amount

    def cut(self):
        self.writer.transport.abort()
        raise Broken

    async def later(self, r, seconds):
        await asyncio.sleep(seconds)
        await self.outcome(r)

    async def answer(self, r, rule):
        fault = rule["fault"]
        if self.store.latency_ms:
            await asyncio.sleep(self.store.latency_ms / 1000)
        if fault == "status":
            return self.refusal(Refused(rule["status"], rule.get("code", "InternalError"),
                                        headers=rule.get("headers", ())))
        if fault == "reset_before":
            self.cut()
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "late":
            asyncio.ensure_future(self.later(r, rule["ms"] / 1000))
            self.cut()
        if fault in ("delay", "twice"):
            await asyncio.sleep(rule.get("ms", 0) / 1000)
        status, headers, body = await self.outcome(r)
        if fault == "reset_after":
            self.cut()
        if fault == "after_status":
            return self.refusal(Refused(rule["status"], rule.get("code", "InternalError")))
        if fault == "garble":
            body = b"<html>\x00\xff not what you asked for"
            status = 200
        if fault == "page":
            status, headers, body = 200, [("Content-Type", "text/html")], b"<html>Hello.</html>"
        if fault == "torn" and r.method != "HEAD":
            body = body[:len(body) // 2]
        return status, headers, body

    async def serve_one(self):
        r = None
        try:
            r = await self.read_request()
            if r is None:
                return False
            self.store.check_bucket(r)
            r.op = self.store.name_op(r)
            self.count(r.op, 1)
            self.store.total += 1
            self.count("received", len(r.body))
            if r.op == "get" and "/segment/" in r.key:
                self.count("get_segment", 1)
            rule = self.store.rule_for(r)
            status, headers, body = await self.answer(r, rule)
        except Early:
            await self.send(b"".join(self.encode(r, *self.refusal(
                Refused(412, "PreconditionFailed", headers=[("Connection", "close")])))))
            return False
        except Refused as e:
            rule = {"fault": "none"}
            status, headers, body = self.refusal(e)
        head, body = self.encode(r, status, headers, body)
        self.count("sent", len(body))
        whole = head + body
        if rule["fault"] in ("reset_body", "short"):
            cut = len(head) + len(body) // 2 if body else len(head) // 2
            await self.send(whole[:cut])
            if rule["fault"] == "short":
                return False
            self.cut()
        if rule["fault"] != "twice":
            await self.send(whole)
        elif "apart" not in rule:
            await self.send(2 * whole)
        else:
            await self.send(whole)
            await asyncio.sleep(rule["apart"] / 1000)
            await self.send(whole)
            self.count("twice", 1)
        return True

    async def run(self):
        try:
            while await self.serve_one():
                pass
        except (Broken, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writer.close()


async def obey(store, loop):
    lines = asyncio.Queue()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        print(store.command(line), flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bucket", default="bucket")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--key", default="test-key")
    parser.add_argument("--secret", default="test-secret")
    parser.add_argument("--token")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate")
    parser.add_argument("--private-key")
    args = parser.parse_args()
    store = Store(args)
    tls = None
    if args.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(args.certificate, args.private_key)
    server = await asyncio.start_server(
        lambda reader, writer: Connection(store, reader, writer).run(),
        "127.0.0.1", args.port, limit=HEAD_MAX, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await obey(store, asyncio.get_running_loop())


asyncio.run(main())
