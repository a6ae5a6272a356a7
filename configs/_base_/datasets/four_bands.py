# Pairs of four bands with 16 bits, such as blue, green, red and near infrared of Sentinel-2, in LEVIR-CD's layout, as
# GeoTIFF. What `bands`, `scale`, `mean` and `std` are for your data, docs/bands.md tells.
load_pair = dict(type='ifn_plugin.LoadBands', bands=(1, 2, 3, 4), scale=(0, 4000), shown=(2, 1, 0))
bands = dict(
    data_preprocessor=dict(mean=[127.5] * 4, std=[64.] * 4, bgr_to_rgb=False),
    train=dict(
        data_root='data/four-bands',
        pipeline=[
            load_pair,
            dict(type='ifn_plugin.LoadChangeLabel'),
            dict(
                type='ifn_plugin.RandomRotateCropFlip',
                crop_size=(256, 256),
                rotate_prob=0.5,
                degree=180,
                cat_max_ratio=0.75),
            dict(type='ifn_plugin.BandDistortion'),
            dict(type='ifn_plugin.ConcatDates'),
            dict(type='mmseg.PackSegInputs'),
        ]),
    test=dict(
        data_root='data/four-bands',
        pipeline=[
            load_pair,
            dict(type='ifn_plugin.LoadChangeLabel'),
            dict(type='ifn_plugin.ConcatDates'),
            dict(type='mmseg.PackSegInputs'),
        ]))
