"""Embedding jobs by many processes: several GPUs of one host, or a Ray cluster.

    plan (one process: read, hash, skip what is known) → todo/shard-*.parquet
      → workers, each with a lease (read, prepare, encode) → shard → marker

All of them run `embeddings.work.encode_shard`: given the same arithmetic, the vectors are those of `--engine local`.
"""
