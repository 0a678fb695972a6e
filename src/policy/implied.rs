//! What holds for a service without a ScalingPolicy whose HPA reads one of our metrics: advice from the HPA's own numbers.
