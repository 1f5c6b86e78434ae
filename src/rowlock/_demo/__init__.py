"""`rowlock demo`: a folder of files, checked by tasks. Enter at `demo`."""
