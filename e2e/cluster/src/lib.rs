//! pilotlight-cluster
