"""The dataset's format: the one reader and writer of records, TFRecord files, index and metadata.

A dataset's folder contains, for each split:

    NAME-SPLIT.tfrecord-00000-of-00064   the shards
    NAME-SPLIT.index.npy                 int64 (N, 3): shard, offset of the frame, length of the data, by shard
    NAME-SPLIT.json                      name, split, layers, classes, shard_lengths, num_examples, num_skipped
    NAME-SPLIT.skipped.jsonl             a line for each skipped image: image_id, reason
    NAME-SPLIT.inputs.jsonl              a line for each input file: [name, bytes, modification time]

It also contains features.json and dataset_info.json, which make it a TFDS dataset.
"""
