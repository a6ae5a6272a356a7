# Synthetic pairs of the demonstration; small crops allow many iterations
dataset_type = 'ifn_plugin.LEVIRCDDataset'
data_root = 'work_dirs/demo/data'
crop_size = (64, 64)

train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='vertical'),
        ]),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
# --tta: flips
tta_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
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
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='ifn_plugin.ResumableBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='val/A', img_path_to='val/B', seg_map_path='val/label'),
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label'),
        pipeline=test_pipeline))

val_evaluator = dict(type='ifn_plugin.ChangeMetric', choose_threshold=True)
test_evaluator = dict(type='ifn_plugin.ChangeMetric')
