"""Looking at a folder of shards: what is in it (`statistics`, `plots`), what it shows (`preview`), and before it is
made, what it will cost (`costs`, `timing`)."""
