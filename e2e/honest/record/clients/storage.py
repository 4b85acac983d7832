"""Reads from an S3-compatible server with boto3, and writes once: storage.py URL."""
import sys

import boto3
from botocore.config import Config

s3 = boto3.client(
    "s3", endpoint_url=sys.argv[1], region_name="eu-central-1", aws_access_key_id="k", aws_secret_access_key="s",
    config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
)

calls = [
    (s3.list_buckets, {}),
    (s3.list_objects_v2, {"Bucket": "bucket", "Prefix": "caf\u00e9/", "Delimiter": "/"}),
    (s3.head_object, {"Bucket": "bucket", "Key": "a b+c.txt"}),
    (s3.get_object, {"Bucket": "bucket", "Key": "reports/2026/r\u00e9sum\u00e9 (2).pdf", "Range": "bytes=0-99"}),
    (s3.get_object, {"Bucket": "bucket", "Key": "x", "ResponseContentDisposition": 'attachment; filename="a.txt"'}),
    (s3.get_object, {"Bucket": "bucket", "Key": "semi;colon=1/@at,comma"}),
    (s3.get_bucket_policy, {"Bucket": "bucket"}),
    (s3.list_object_versions, {"Bucket": "bucket"}),
    (s3.put_object, {"Bucket": "bucket", "Key": "x", "Body": b"_method"}),
    (s3.delete_object, {"Bucket": "bucket", "Key": "x"}),
]
for call, arguments in calls:
    try:
        call(**arguments)
    except Exception:  # the recorder does not answer as S3 would, but the request is recorded
        pass
