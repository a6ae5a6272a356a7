"""A web server for files that answers range requests, counts the bytes that it sends, and breaks connections on demand.

``python range_server.py FOLDER LOG``: the URL is printed; LOG gets a line for each answer with its path and number of
bytes. As long as there is a file FOLDER/break, it holds how many of the coming ranges are refused.
"""

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER, LOG = Path(sys.argv[1]), Path(sys.argv[2])


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
        broken = FOLDER / 'break'
        if 'Range' in self.headers and broken.exists() and int(broken.read_text()) > 0:
            broken.write_text(str(int(broken.read_text()) - 1))
            if broken.read_text()[-1] in '02468':  # every second time, without a word
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
        self.wfile.write(body)
        with LOG.open('a') as log:
            log.write(f'{self.path} {len(body)}\n')

    def log_message(self, *_):
        pass


if __name__ == '__main__':
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    print(f'http://127.0.0.1:{server.server_port}', flush=True)
    server.serve_forever()
