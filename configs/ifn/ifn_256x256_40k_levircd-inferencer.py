# For open-cd's OpenCDInferencer, which looks up open-cd's own loaders and visualizer by name
_base_ = ['ifn_256x256_40k_levircd.py']
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='MultiImgLoadImageFromFile'),
            dict(type='MultiImgLoadAnnotations'),
            dict(type='MultiImgPackSegInputs'),
        ]))
visualizer = dict(
    _delete_=True, type='CDLocalVisualizer', vis_backends=[dict(type='CDLocalVisBackend')], alpha=1.0)
