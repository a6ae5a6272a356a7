# IFN on S2Looking in mmsegmentation: 512×512 crops, 80,000 iterations
_base_ = ['ifn_mmseg_256x256_40k_levircd.py', '../_base_/datasets/s2looking.py']
train_pipeline = _base_.train_pipeline
train_pipeline[2].transforms[1].crop_size = (512, 512)
train_dataloader = dict(dataset=dict(**_base_.folders.train, pipeline=train_pipeline))
val_dataloader = dict(dataset=_base_.folders.val)
test_dataloader = dict(dataset=_base_.folders.test)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 80000
train_cfg = dict(max_iters=80000)
