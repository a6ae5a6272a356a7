"""A web server for files that answers range requests, counts the bytes that it sends, and breaks connections on demand.

``python range_server.py FOLDER LOG``: the URL is printed; LOG gets a line for each answer with its path and number of
bytes. As long as there are files FOLDER/break, FOLDER/cut and FOLDER/stall, they hold how many of the coming ranges are
refused, or end or stand still after half of the body.
"""

import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER, LOG = Path(sys.argv[1]), Path(sys.argv[2])


def due(kind):
    """Count down what is left of a kind of fault; return how many are left with this one, or 0."""
    path = FOLDER / kind
    left = int(path.read_text()) if path.exists() else 0
    if left:
        path.write_text(str(left - 1))
    return left


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = FOLDER / self.path.lstrip('/')
        if not path.is_file():
            self.send_response(404)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        left = due('break') if 'Range' in self.headers else 0
        if left:
            if left % 2:  # every second time, without a word
                self.close_connection = True
                return
            self.send_response(503)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        size = path.stat().st_size
        asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
        first, last = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
        self.send_response(206 if asked else 200)
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(last - first + 1))
        if asked:
            self.send_header('Content-Range', f'bytes {first}-{last}/{size}')
        self.end_headers()
        if not with_body:
            return
        with path.open('rb') as file:
            file.seek(first)
            body = file.read(last - first + 1)
        stalled = asked and due('stall')
        if stalled or (asked and due('cut')):
            body = body[:len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        if stalled:
            time.sleep(10)
        with LOG.open('a') as log:
            log.write(f'{self.path} {len(body)}\n')

    def log_message(self, *_):
        pass


if __name__ == '__main__':
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    print(f'http://127.0.0.1:{server.server_port}', flush=True)
    server.serve_forever()
