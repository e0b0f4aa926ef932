"""Credentials in URIs are refused, before a table or MLflow could record them."""

import pytest

from climb.config import load
from climb.config.uris import hide_credentials
from climb.errors import ConfigError

SECRET = "wJalr/XUtnFEMI+K7MDENG"


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        (f"ingest.inputs=[data/*.parquet, 's3://AKIA:{SECRET}@bucket/text']", "ingest.inputs.1"),
        (f"ingest.inputs=['delta:s3a://AKIA:{SECRET}@bucket/table']", "ingest.inputs.0"),
        (f"storage.root=s3a://AKIA:{SECRET}@bucket/climb", "storage.root"),
        (f"storage.files=hdfs://user:{SECRET}@host/climb", "storage.files"),
        (f"mix.export=s3a://{SECRET.replace('/', '')}@bucket/mixed", "mix.export"),
        (f"report.path=https://user:{SECRET}@host/report.html", "report.path"),
        (f"ingest.inputs=abfss://container:{SECRET}@account.dfs.core.windows.net/x", "ingest"),
        (f"count.path=s3://AKIA:{SECRET}@bucket/tokenizer.json", "count.path"),
        (f"embed.embedder.table=s3://AKIA:{SECRET}@bucket/table", "embed.embedder.table"),
        (f"spark.shuffle_partitions=s3://AKIA:{SECRET}@bucket", "spark.shuffle_partitions"),
    ],
)
def test_a_uri_with_a_user_or_a_password_is_refused_without_quoting_it(setting, key):
    with pytest.raises(ConfigError) as caught:
        load(settings=[setting])
    message = str(caught.value)
    assert message.startswith(key)
    assert "contains a user or a password" in message
    assert "\n" not in message
    assert not {part for part in (SECRET, *SECRET.split("/"), "AKIA") if part in message}


def test_a_secret_of_a_target_is_refused(tmp_path):
    targets = (
        f"proxy.targets=[{{name: t, kind: text, search: 's3://AKIA:{SECRET}@bucket/x.jsonl', "
        "report: null, limit: null}]"
    )
    with pytest.raises(
        ConfigError, match=r"^proxy\.targets\.0\.search: the URI s3://\.\.\.@bucket"
    ):
        load(settings=[targets])


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/text/*.parquet",
        "s3a://bucket/users/someone@example.com/text",
        "hdfs://host:8020/users/someone@example.com/text",
        "abfss://container@account.dfs.core.windows.net/text",
        "wasbs://container@account.blob.core.windows.net/text",
        "/data/someone@example.com/text",
        "delta:main.lake.letters",
    ],
)
def test_an_at_sign_that_is_no_credential_is_accepted(path):
    assert load(settings=[f"ingest.inputs=['{path}']"]).ingest.inputs == (path,)


def test_the_address_of_an_mlflow_server_may_have_a_password():
    """It is never stored: databases have no other way to get one."""
    uri = f"postgresql://climb:{SECRET}@host/mlflow"
    assert load(settings=[f"tracking.uri={uri}"]).tracking.uri == uri


def test_a_password_is_removed_from_a_text():
    assert hide_credentials("no route to http://me:word@host:5000/api") == (
        "no route to http://host:5000/api"
    )
    assert hide_credentials(f"s3://AKIA:{SECRET}@bucket/a refused") == "s3://bucket/a refused"
    for text in ("http://host:5000/a@b", "http://host:5000 or a@b"):
        assert hide_credentials(text) == text


@pytest.mark.parametrize("root", ["/Volumes/main/climb/files", "dbfs:/Volumes/main/climb/files"])
def test_a_volume_without_a_catalog_is_refused(root, tmp_path):
    files = f"storage.files={tmp_path}"
    with pytest.raises(ConfigError, match=r"storage: root is '.*/Volumes/.*set storage\.catalog"):
        load(settings=[f"storage.root={root}", files])
    settings = [f"storage.root={root}", files, "storage.catalog=main.climb"]
    assert load(settings=settings).storage.root == root
