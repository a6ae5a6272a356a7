# LEVIR-CD as it is distributed: {train,val,test}/{A,B,label}, 1024×1024 PNG. The pipelines are each stack's own.
dataset_type = 'ifn_plugin.LEVIRCDDataset'
data_root = 'data/LEVIR-CD'
crop_size = (256, 256)
photometry = dict(brightness_delta=10, contrast_range=(0.8, 1.2), saturation_range=(0.8, 1.2), hue_delta=10)

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='ifn_plugin.ResumableBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label')))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='val/A', img_path_to='val/B', seg_map_path='val/label')))
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label')))
val_evaluator = dict(type='ifn_plugin.ChangeMetric', choose_threshold=True)
test_evaluator = dict(type='ifn_plugin.ChangeMetric')
