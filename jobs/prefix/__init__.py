"""The frozen part of the model: what it computes, kept on disk from job to job."""
