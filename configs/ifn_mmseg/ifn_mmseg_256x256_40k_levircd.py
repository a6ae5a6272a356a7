# IFN on LEVIR-CD in mmsegmentation: the recipe of ../ifn/ifn_256x256_40k_levircd.py without open-cd.
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd_neutral.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
default_scope = 'mmseg'
model = dict(type='EncoderDecoder')

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
