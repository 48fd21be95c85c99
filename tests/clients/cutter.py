"""A network that loses answers: it stands between a client and the switch, and cuts a connection when it is told to."""

import socket
import struct
import threading


class Cutter:
    """Hands everything on, until `cut_next`: then the next answer is lost and its connection reset."""

    def __init__(self, host, port):
        self.target = (host, port)
        self.cut = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def cut_next(self):
        """Loses the next answer: the switch has answered, and nobody hears it."""
        self.cut.set()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
            threading.Thread(target=self.answers, args=(server, client), daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def answers(self, server, client):
        try:
            while data := server.recv(65536):
                if self.cut.is_set():
                    self.cut.clear()
                    # Closed with a reset, and not one byte of the answer.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.shutdown(socket.SHUT_RDWR)
                    break
                client.sendall(data)
        except OSError:
            pass
        client.close()
        server.close()
