//! pilotlight-crds
