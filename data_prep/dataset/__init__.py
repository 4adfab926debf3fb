"""The dataset's format: records, TFRecord files, index, metadata. The one reader and writer of each.

A dataset's folder holds, for each split:

    NAME-SPLIT.tfrecord-00000-of-00064   the shards
    NAME-SPLIT.index.npy                 int64 (N, 3): shard, offset of the frame, length of the data
    NAME-SPLIT.json                      name, split, layers, classes, shard_lengths, num_examples, num_skipped
    NAME-SPLIT.skipped.jsonl             a line for each skipped image: image_id, reason
    NAME-SPLIT.inputs.jsonl              a line for each input file: [name, bytes, modification time]

beside the features.json and dataset_info.json that make it a TFDS dataset.
"""
