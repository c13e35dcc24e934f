"""Commands of the group `m2m data`, one file each."""
