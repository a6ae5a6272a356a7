# IFN on SVCD in mmsegmentation: 256×256 crops, 120,000 iterations
_base_ = ['ifn_mmseg_256x256_40k_levircd.py', '../_base_/datasets/svcd.py']
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
for pipeline in (train_pipeline, test_pipeline):
    pipeline[1].threshold = 127
del pipeline
tta_pipeline = _base_.tta_pipeline
tta_pipeline[-1].transforms[1][0].threshold = 127
train_dataloader = dict(dataset=dict(**_base_.folders.train, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**_base_.folders.val, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(**_base_.folders.test, pipeline=test_pipeline))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 120000
train_cfg = dict(max_iters=120000)
