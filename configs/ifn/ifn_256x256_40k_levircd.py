# IFN on LEVIR-CD in open-cd: the 40k recipe of open-cd's benchmark (P 91.17, R 90.51, F1 90.83, IoU 83.21 there).
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
default_scope = 'opencd'
model = dict(type='opencd.DIEncoderDecoder')

train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='MultiImgRandomRotate', prob=0.5, degree=180),
    dict(type='MultiImgRandomCrop', crop_size=_base_.crop_size, cat_max_ratio=0.75),
    dict(type='MultiImgRandomFlip', prob=0.5, direction='horizontal'),
    dict(type='MultiImgRandomFlip', prob=0.5, direction='vertical'),
    dict(type='MultiImgPhotoMetricDistortion', **_base_.photometry),
    dict(type='MultiImgPackSegInputs'),
]
test_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='MultiImgPackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# --tta: flips
tta_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(
        type='TestTimeAug',
        transforms=[[
            dict(type='MultiImgRandomFlip', prob=0., direction='horizontal'),
            dict(type='MultiImgRandomFlip', prob=1., direction='horizontal'),
            dict(type='MultiImgRandomFlip', prob=1., direction='vertical'),
        ], [dict(type='ifn_plugin.LoadChangeLabel')], [dict(type='MultiImgPackSegInputs')]]),
]
