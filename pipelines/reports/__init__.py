"""Reports: what a job did, as one page in its output folder, made from the ledger and the shards."""
