"""Where contents come from: folders, Parquet and tar files, object stores, and the web."""
