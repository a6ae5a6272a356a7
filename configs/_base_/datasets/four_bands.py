# GeoTIFF pairs of four 16-bit bands, such as blue, green, red and near infrared of Sentinel-2, in LEVIR-CD's layout.
# docs/bands.md explains how to set `bands`, `scale`, `mean` and `std` for your data.
dataset_type = 'ifn_plugin.LEVIRCDDataset'
data_root = 'data/four-bands'
crop_size = (256, 256)
load_pair = dict(type='ifn_plugin.LoadBands', bands=(1, 2, 3, 4), scale=(0, 4000), shown=(2, 1, 0))

train_pipeline = [
    load_pair,
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.RandomRotateCropFlip', crop_size=crop_size, rotate_prob=0.5, degree=180, cat_max_ratio=0.75),
    dict(type='ifn_plugin.BandDistortion'),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    load_pair,
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
# --tta: flips
tta_pipeline = [
    load_pair,
    dict(type='ifn_plugin.ConcatDates'),
    dict(
        type='TestTimeAug',
        transforms=[[
            dict(type='mmseg.RandomFlip', prob=0., direction='horizontal'),
            dict(type='mmseg.RandomFlip', prob=1., direction='horizontal'),
            dict(type='mmseg.RandomFlip', prob=1., direction='vertical'),
        ], [dict(type='ifn_plugin.LoadChangeLabel')], [dict(type='mmseg.PackSegInputs')]]),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='ifn_plugin.ResumableBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='val/A', img_path_to='val/B', seg_map_path='val/label'),
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label'),
        pipeline=test_pipeline))

val_evaluator = dict(type='ifn_plugin.ChangeMetric', choose_threshold=True)
test_evaluator = dict(type='ifn_plugin.ChangeMetric')
