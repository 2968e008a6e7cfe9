//! Why a pod does not start, in a word and in the container's own words. Pure; used for conditions, events and answers alike.
