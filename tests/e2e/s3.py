"""The S3 simulator for black-box tests, and servers that keep their data in it."""
import json
import subprocess
import sys

from elacsym import REPOSITORY, Server


class S3:
    """tests/s3sim as a process; lives until stop()."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests/s3sim/s3sim.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def do(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def counts(self):
        return json.loads(self.do(do="counts"))

    def segment_reads(self):
        return self.counts().get("get_segment", 0)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()

    def server(self, root, **environment):
        return Server(root, **{
            "ELACSYM_STORAGE_BACKEND": "s3",
            "ELACSYM_STORAGE_S3_BUCKET": "bucket",
            "ELACSYM_STORAGE_S3_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "ELACSYM_COMMIT_INTERVAL_MS": "0",
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            **environment,
        })
