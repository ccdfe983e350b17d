"""The S3 simulator (tests/s3sim) as a process, and what a node needs to reach it."""
import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "s3sim/s3sim.py"
KEY, SECRET, BUCKET = "test-key", "test-secret", "bucket"


class Simulator:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.port = int(self.process.stdout.readline())
        scheme = "https" if "--certificate" in arguments else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"

    def do(self, what, **more):
        self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        answer = self.process.stdout.readline().strip()
        return None if answer == "ok" else json.loads(answer)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def environment(self, **other):
        """For a node that keeps its objects there."""
        settings = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "ELACSYM_STORAGE_BACKEND": "s3",
            "ELACSYM_STORAGE_S3_BUCKET": BUCKET,
            "ELACSYM_STORAGE_S3_ENDPOINT": self.endpoint,
        }
        return {**settings, **other}
