"""Buckets on the S3 server that the environment names (tools/s3_server.sh); none when it names none."""
import functools
import os
import uuid

ENDPOINT = os.environ.get("S3_TEST_ENDPOINT")


@functools.cache
def s3():
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required", response_checksum_validation="when_required"),
    )


def make():
    """A fresh bucket's name."""
    name = "e2e-" + uuid.uuid4().hex[:16]
    s3().create_bucket(Bucket=name)
    return name


def environment(bucket, endpoint=ENDPOINT):
    """What makes a node store there."""
    return {
        "ELACSYM_STORAGE_BACKEND": "s3",
        "ELACSYM_STORAGE_S3_BUCKET": bucket,
        "ELACSYM_STORAGE_S3_ENDPOINT": endpoint,
        "ELACSYM_STORAGE_S3_CONTENT_MD5": os.environ.get("ELACSYM_STORAGE_S3_CONTENT_MD5", "false"),
    }


def keys(bucket, prefix=""):
    """All keys with the prefix, in the order in which the store lists them."""
    pages = s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def folders(bucket, prefix):
    """What `aws s3 ls s3://BUCKET/PREFIX` shows as folders."""
    answer = s3().list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
