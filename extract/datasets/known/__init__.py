"""The datasets that `--dataset` knows: every file here that makes a `DatasetSpec` adds one."""
