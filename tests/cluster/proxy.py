"""A wire between two nodes that a test can cut: a TCP proxy on loopback."""
import socket
import threading


class Proxy:
    """mode: pass, hang (accepts and moves nothing), half (the way back is shut down), refuse (resets)."""

    def __init__(self, port):
        self.target, self.mode, self.pairs = port, "pass", []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode):
        """From now on, for open connections too."""
        self.mode = mode
        for near, far in list(self.pairs):
            try:
                if mode == "half":
                    near.shutdown(socket.SHUT_WR)
                elif mode == "refuse":
                    near.close()
                    far.close()
            except OSError:
                pass

    def close(self):
        self.closing = True
        self.listener.close()
        self.set("refuse")

    def _accept(self):
        while not self.closing:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.mode == "refuse":
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.pairs.append((near, far))
            if self.mode == "half":
                near.shutdown(socket.SHUT_WR)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._move, args=(source, sink), daemon=True).start()

    def _move(self, source, sink):
        try:
            while data := source.recv(65536):
                if self.mode == "hang":
                    continue
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                end.close()
