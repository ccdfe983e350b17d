"""Servers that keep their data in the S3 simulator."""
from elacsym import Server
from simulator import Simulator


class S3(Simulator):
    """Lives until stop()."""

    def segment_reads(self):
        return self.do("counts").get("get_segment", 0)

    def server(self, root, **environment):
        fixed = {"ELACSYM_COMMIT_INTERVAL_MS": "0", "AWS_EC2_METADATA_DISABLED": "true"}
        return Server(root, **self.environment(**{**fixed, **environment}))
