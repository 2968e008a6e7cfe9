//! pilotlight-scaling
