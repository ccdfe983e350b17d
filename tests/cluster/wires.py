"""Nodes behind wires of their own: network namespaces, joined by a bridge, between which packets can be dropped."""
import json
import os
import shutil
import subprocess

TOOLS = ("ip", "iptables")


def run(*words):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True)


class Wires:
    """Use it in a with statement. attach gives a node an address, drop loses packets from one to another."""

    def __init__(self):
        self.tag = f"el{os.getpid() % 100000}"
        self.subnet = f"10.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self.count, self.names, self.address_of = 1, [], {}

    @property
    def here(self):
        """The address of this process, and of the store."""
        return f"{self.subnet}.1"

    def _must(self, *words):
        done = run(*words)
        assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr.strip()}"

    def __enter__(self):
        """The bridge is in a namespace of its own too: this machine's rules for forwarding are not for it."""
        try:
            self._must("ip", "netns", "add", self.tag)
            self.names.append(self.tag)
            self._must("ip", "-n", self.tag, "link", "add", "bridge", "type", "bridge")
            self._must("ip", "-n", self.tag, "link", "set", "bridge", "up")
            self._must("ip", "link", "add", self.tag, "type", "veth", "peer", "name", "here", "netns", self.tag)
            self._must("ip", "-n", self.tag, "link", "set", "here", "master", "bridge", "up")
            self._must("ip", "address", "add", f"{self.here}/24", "dev", self.tag)
            self._must("ip", "link", "set", self.tag, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            run("ip", "netns", "delete", name)  # its ends of wires go with it, and so the others
        run("ip", "link", "delete", self.tag)

    def attach(self, node):
        """Has node run in a network namespace of its own; before it is started."""
        self.count += 1
        name, wire = f"{self.tag}-{node.name}", f"{self.tag}w{self.count}"
        self._must("ip", "netns", "add", name)
        self.names.append(name)
        self._must("ip", "-n", self.tag, "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._must("ip", "-n", self.tag, "link", "set", wire, "master", "bridge", "up")
        node.host = f"{self.subnet}.{self.count}"
        inside = ("ip", "-n", name)
        self._must(*inside, "address", "add", f"{node.host}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            self._must(*inside, "link", "set", link, "up")
        node.prefix = ["ip", "netns", "exec", name]
        self.address_of[node] = node.host

    def _rules(self, node, what, peer, chance):
        chance = () if chance == 1 else ("-m", "statistic", "--mode", "random", "--probability", chance)
        self._must(*node.prefix, "iptables", what, "INPUT", "-s", peer, *chance, "-j", "DROP")

    def drop(self, source, sink, chance=1):
        """Packets from source (a node, or None for here) to sink are lost, all of them or with a chance."""
        self._rules(sink, "-A", source.host if source else self.here, chance)

    def mend(self):
        for node in self.address_of:
            self._must(*node.prefix, "iptables", "-F", "INPUT")


def why_not():
    """None, or why there can be no wires here."""
    missing = [t for t in TOOLS if not shutil.which(t, path=os.environ.get("PATH", "") + ":/usr/sbin")]
    if missing:
        return f"{' and '.join(missing)} not installed"
    try:
        with Wires() as wires:
            node = type("Node", (), {"name": "t"})()
            wires.attach(node)
            wires.drop(None, node, 0.5)
            wires.mend()
    except AssertionError as refused:
        return f"network namespaces are not permitted here: {refused}"
    return None


if __name__ == "__main__":
    print(json.dumps(why_not()))
