"""An HTTP server as a component: `GET /secret`, `POST /echo`, and `GET /hash-all`, which fetches the URL in each `url`
header and answers with the SHA-256 of each response's body. Everything is streamed.

Build it in this directory, with `pip install componentize-py==0.25.1`:

    componentize-py -d ../../serve/wit -w rvm --world-module rvm componentize http_server -o http-server.wasm
"""

import hashlib
from urllib.parse import urlsplit

from componentize_py_types import Ok
from rvm import exports
from rvm.imports import outgoing_handler
from rvm.imports.host import client_secret
from rvm.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Get,
    Method_Post,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
    Scheme_Https,
)

# The maximum number of bytes per read.
PIECE = 1 << 16


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = (request.path_with_query() or "/").split("?")[0]
        match request.method(), path:
            case Method_Get(), "/secret":
                answer(response_out, 200, [("content-type", b"text/plain")], [client_secret().encode()])
            case Method_Post(), "/echo":
                kept = [(name, value) for name, value in request.headers().entries() if name == "content-type"]
                answer(response_out, 200, kept, pieces(request.consume()))
            case Method_Get(), "/hash-all":
                urls = [url.decode() for url in request.headers().get("url")]
                answer(response_out, 200, [("content-type", b"text/plain")], hashes(urls))
            case _:
                answer(response_out, 400, [], [])


def answer(response_out: ResponseOutparam, status: int, fields: list[tuple[str, bytes]], content) -> None:
    """Sends a status and header fields immediately, followed by a body in pieces."""
    response = OutgoingResponse(Fields.from_list(fields))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        for piece in content:
            write(stream, piece)
    OutgoingBody.finish(body, None)


def write(stream, piece: bytes) -> None:
    """Writes a piece, as many bytes at a time as the client accepts."""
    ready = stream.subscribe()
    while piece:
        room = stream.check_write()
        if room == 0:
            ready.block()
            continue
        stream.write(piece[:room])
        piece = piece[room:]
    ready.__exit__(None, None, None)


def pieces(body: IncomingBody):
    """Reads a body to the end and yields its pieces."""
    with body, body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(PIECE)
            except Exception as error:
                if is_end(error):
                    return
                raise


def is_end(error: Exception) -> bool:
    return type(getattr(error, "value", None)).__name__ == "StreamError_Closed"


def hashes(urls: list[str]):
    """Fetches all URLs concurrently, and yields a line for each one, in order."""
    for url, response in [(url, fetch(url)) for url in urls]:
        yield f"{url}: {digest(response)}\n".encode()


def fetch(url: str):
    parts = urlsplit(url)
    request = OutgoingRequest(Fields.from_list([]))
    request.set_scheme(Scheme_Http() if parts.scheme == "http" else Scheme_Https())
    request.set_authority(parts.netloc)
    request.set_path_with_query(f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
    return outgoing_handler.handle(request, None)


def digest(coming) -> str:
    with coming.subscribe() as ready:
        ready.block()
    match coming.get():
        case Ok(Ok(response)) if response.status() == 200:
            sha256 = hashlib.sha256()
            for piece in pieces(response.consume()):
                sha256.update(piece)
            return sha256.hexdigest()
        case Ok(Ok(response)):
            return f"unexpected status: {response.status()}"
        case Ok(error):
            return f"failed: {type(error.value).__name__}"
