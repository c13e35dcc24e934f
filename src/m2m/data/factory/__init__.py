"""From image sets that somebody can make to a folder of shards, careful as a database.

`sources` says what a set is and who makes its images, `settings` how they are cut and stored, `jobs` which shards that
means. `assembly` makes one shard after the other with encoding and writing beside it. `folder` keeps the folder's
identity, slices, failures and manifest. `build` runs it all, by a `ledger` of what is left to make, to a `report`.
`recipes` opens a source again in another process; `ray` is the build on many machines. `encode` makes latents of a
folder. `verify` compares a folder with its manifest, and `repair` makes damaged shards again from their `origins`.
"""
