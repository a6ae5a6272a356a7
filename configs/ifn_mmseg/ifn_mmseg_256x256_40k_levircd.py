# IFN on LEVIR-CD in mmsegmentation: the recipe of ../ifn/ifn_256x256_40k_levircd.py without open-cd.
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
default_scope = 'mmseg'
model = dict(type='EncoderDecoder')

train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='RandomRotate', prob=0.5, degree=180),
            dict(type='RandomCrop', crop_size=_base_.crop_size, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='RandomFlip', prob=0.5, direction='vertical'),
        ]),
    dict(
        type='ifn_plugin.EachDate',
        share_random_params=False,
        transforms=[dict(type='PhotoMetricDistortion', **_base_.photometry)]),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# --tta: flips
tta_model = dict(type='ifn_plugin.ChangeTTAModel')
tta_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.ConcatDates'),
    dict(
        type='TestTimeAug',
        transforms=[[
            dict(type='RandomFlip', prob=0., direction='horizontal'),
            dict(type='RandomFlip', prob=1., direction='horizontal'),
            dict(type='RandomFlip', prob=1., direction='vertical'),
        ], [dict(type='ifn_plugin.LoadChangeLabel')], [dict(type='PackSegInputs')]]),
]
