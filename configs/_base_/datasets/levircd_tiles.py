# What runs on two CPU cores take of LEVIR-CD cut into 256×256 tiles: 128×128 crops, flipped
tiles_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='mmseg.RandomCrop', crop_size=(128, 128), cat_max_ratio=0.95),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='vertical'),
        ]),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
