# IFN on DSIFN-CD in mmsegmentation: 512×512 crops, 40,000 iterations
_base_ = ['ifn_mmseg_256x256_40k_levircd.py', '../_base_/datasets/dsifn.py']
train_pipeline = _base_.train_pipeline
train_pipeline[2].transforms[1].crop_size = (512, 512)
train_dataloader = dict(dataset=dict(**_base_.folders.train, pipeline=train_pipeline))
val_dataloader = dict(dataset=_base_.folders.val)
test_dataloader = dict(dataset=_base_.folders.test)
