"""Shards: plain tar files of image sets, each with a record of its content, written crash-safe and read with checks.

For each set a shard holds KEY.000.webp, KEY.001.webp, ... (or KEY.latents.npy) and last KEY.json. Beside NAME.tar
lies NAME.json, its record: count, size and digest of the whole and of every set. `manifest.json` lists a folder's
shards.
"""

from m2m.data.shards.locations import is_url, open_url, read_file, transfer_failure
from m2m.data.shards.mapping import open_json
from m2m.data.shards.names import ShardError, check_key, image_number, image_suffix, shard_name, split_entry, split_name
from m2m.data.shards.reader import ShardReader, open_array, open_picture
from m2m.data.shards.records import (
    Manifest,
    ManifestEntry,
    SampleRecord,
    ShardRecord,
    manifest_entry,
    read_manifest,
    read_record,
    record_of,
    record_path,
    shard_path,
    write_manifest,
    write_record,
)
from m2m.data.shards.tar import TRAILER, Member, entry_bytes, scan
from m2m.data.shards.writer import ShardBusy, ShardWriter, forget_shard, is_finished

__all__ = [
    "TRAILER",
    "Manifest",
    "ManifestEntry",
    "Member",
    "SampleRecord",
    "ShardBusy",
    "ShardError",
    "ShardReader",
    "ShardRecord",
    "ShardWriter",
    "check_key",
    "entry_bytes",
    "forget_shard",
    "image_number",
    "image_suffix",
    "is_finished",
    "is_url",
    "manifest_entry",
    "open_array",
    "open_json",
    "open_picture",
    "open_url",
    "read_file",
    "read_manifest",
    "read_record",
    "record_of",
    "record_path",
    "scan",
    "shard_name",
    "shard_path",
    "split_entry",
    "split_name",
    "transfer_failure",
    "write_manifest",
    "write_record",
]
