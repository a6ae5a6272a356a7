# IFN on DSIFN-CD: 512×512 crops, 40,000 iterations
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/dsifn.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
