"""Google's XML API in front of fake-gcs-server, which has the JSON one: the client library that the log uses speaks XML.

  gcs-xml.py PORT BACKEND_PORT

It translates names and headers, and decides nothing: an object is created only if there is none (x-goog-if-generation-match: 0)
because fake-gcs-server says so (ifGenerationMatch=0). Makes the bucket `bucket`, and serves on the loopback until it is killed.
"""

import http.client
import json
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

PORT, BACKEND = int(sys.argv[1]), int(sys.argv[2])
local = threading.local()


def ask(method, path, body=None, headers=None):
    """One request to the emulator: status, headers and body of its answer."""
    for attempt in range(2):
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = http.client.HTTPConnection("127.0.0.1", BACKEND, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            connection.close()
            local.connection = None
            # A connection that was idle for too long; what may have been done is not done again.
            if attempt or method == "POST":
                raise


def quote(name):
    return urllib.parse.quote(name, safe="")


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def place(self):
        path = urllib.parse.urlsplit(self.path).path.lstrip("/")
        bucket, _, name = path.partition("/")
        return urllib.parse.unquote(bucket), urllib.parse.unquote(name)

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        if not any(key.lower() == "content-length" for key, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self):
        bucket, name = self.place()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = {"uploadType": "media", "name": name}
        generation = self.headers.get("x-goog-if-generation-match")
        if generation is not None:
            query["ifGenerationMatch"] = generation
        path = f"/upload/storage/v1/b/{quote(bucket)}/o?{urllib.parse.urlencode(query)}"
        status, _, said = ask("POST", path, body, {"Content-Type": "application/octet-stream"})
        if status != 200:
            return self.answer(status, body=said)
        made = json.loads(said)
        self.answer(200, [("ETag", f'"{made.get("etag", "")}"'), ("x-goog-generation", str(made.get("generation", 0)))])

    def do_GET(self):
        bucket, name = self.place()
        if not name:
            return self.listing(bucket)
        headers = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
        path = f"/storage/v1/b/{quote(bucket)}/o/{quote(name)}"
        if self.command == "HEAD":
            status, _, said = ask("GET", path)
            if status != 200:
                return self.answer(status)
            found = json.loads(said)
            length = found["size"]
            sent = [("Last-Modified", date(found["updated"])), ("ETag", f'"{found["etag"]}"'), ("Content-Length", length)]
            return self.answer(200, sent)
        status, given, said = ask("GET", path + "?alt=media", headers=headers)
        sent = [(k, given[k]) for k in ("Last-Modified", "ETag", "Content-Range", "x-goog-generation") if k in given]
        self.answer(status, sent, said)

    do_HEAD = do_GET

    def do_DELETE(self):
        bucket, name = self.place()
        status, _, said = ask("DELETE", f"/storage/v1/b/{quote(bucket)}/o/{quote(name)}")
        self.answer(204 if status == 200 else status, body=b"" if status == 200 else said)

    def listing(self, bucket):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        after = asked.get("start-after", "")
        query = {k: v for k, v in (("prefix", asked.get("prefix")), ("delimiter", asked.get("delimiter")),
                                   ("pageToken", asked.get("continuation-token")), ("startOffset", after)) if v}
        status, _, said = ask("GET", f"/storage/v1/b/{quote(bucket)}/o?{urllib.parse.urlencode(query)}")
        if status != 200:
            return self.answer(status, body=said)
        found = json.loads(said)
        rows = "".join(
            f"<Contents><Key>{escape(o['name'])}</Key><Size>{o['size']}</Size><ETag>{escape(o.get('etag', ''))}</ETag>"
            f"<LastModified>{o['updated']}</LastModified></Contents>"
            for o in found.get("items") or [] if o["name"] > after)
        rows += "".join(f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in found.get("prefixes") or [])
        if found.get("nextPageToken"):
            rows += f"<NextContinuationToken>{escape(found['nextPageToken'])}</NextContinuationToken>"
        body = f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult>{rows}</ListBucketResult>".encode()
        self.answer(200, [("Content-Type", "application/xml")], body)


def date(text):
    """2024-01-02T03:04:05.678Z as HTTP says it."""
    at = time.strptime(text.split(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S")
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", at)


def main():
    until = time.monotonic() + 20
    while True:
        try:
            status, _, said = ask("POST", "/storage/v1/b?project=test", json.dumps({"name": "bucket"}),
                                  {"Content-Type": "application/json"})
            break
        except OSError:
            local.connection = None
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    if status != 200:
        sys.exit(f"gcs-xml: the bucket cannot be made: {status} {said}")
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Front)
    server.daemon_threads = True
    server.serve_forever()


main()
