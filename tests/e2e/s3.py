"""Servers that keep their data in one bucket: of the S3 server that the environment names, else of the simulator."""
import buckets
from elacsym import Server
from simulator import Simulator

FIXED = {"ELACSYM_COMMIT_INTERVAL_MS": "0", "AWS_EC2_METADATA_DISABLED": "true"}


class Simulated(Simulator):
    def segment_reads(self):
        """Of all nodes so far."""
        return self.do("counts").get("get_segment", 0)

    def server(self, root, **environment):
        return Server(root, **self.environment(**{**FIXED, **environment}))


class Real:
    def __init__(self):
        self.bucket = buckets.make()
        self.servers = []

    def segment_reads(self):
        """Of the nodes that run, since each of them started."""
        return sum(map(store_ranges, self.servers))

    def server(self, root, **environment):
        self.servers.append(Server(root, **{**FIXED, **buckets.environment(self.bucket), **environment}))
        return self.servers[-1]

    def stop(self):
        pass


def store_ranges(server):
    if server.process is None or server.process.poll() is not None:
        return 0
    client = server.client()
    name = 'elacsym_cache_ranges_total{tier="store"} '
    lines = client.get("/metrics").content.decode().splitlines()
    client.close()
    return sum(int(line[len(name):]) for line in lines if line.startswith(name))


def S3():
    """Lives until stop()."""
    return Real() if buckets.ENDPOINT else Simulated()
