//! The answer for a request whose outcomes are given: shapes, codes, and what is held.

use kafka_protocol::messages::produce_response::ProduceResponse;
use kafka_protocol::protocol::Decodable;

use super::super::api;
use super::*;
use crate::receipt::Doubt;

fn request(version: i16) -> Request {
    Request { api: api::find(0).expect("Produce"), version, correlation: 9 }
}

fn placed(places: Vec<Place>) -> Vec<Placed> {
    let partitions = places.into_iter().enumerate().map(|(index, place)| (index as i32, place)).collect();
    vec![Placed { name: "t".to_owned(), partitions }]
}

fn decoded(version: i16, bytes: &Bytes) -> ProduceResponse {
    let mut body = bytes.slice(if version >= 9 { 9 } else { 8 }..);
    let response = ProduceResponse::decode(&mut body, version).expect("an answer");
    assert!(body.is_empty());
    response
}

#[test]
fn outcomes_stand_at_their_places_between_what_the_door_refused() {
    let no = No::new(reply::INVALID_RECORD, "no");
    let landed = Landed::Broker { base_offset: 42, log_append_time_ms: 7, log_start_offset: 3 };
    let results = [Ok(landed), Err(Refusal::Internal), Ok(Landed::Inbox)];
    for version in 3..=11 {
        let places = placed(vec![Place::Admitted, Place::Refused(no.clone()), Place::Admitted, Place::Admitted, Place::Admitted]);
        let (bytes, hold) = write(request(version), &places, &results, Duration::from_millis(1_500));
        assert!(!hold);
        let response = decoded(version, &bytes);
        assert_eq!(response.throttle_time_ms, 1_500);
        let told: Vec<_> = response.responses[0].partition_responses.iter().map(|one| (one.error_code, one.base_offset)).collect();
        assert_eq!(told, [(0, 42), (87, -1), (7, -1), (0, -1), (7, -1)], "one without an outcome is a fault of ours");
        let stored = &response.responses[0].partition_responses[0];
        assert_eq!((stored.log_append_time_ms, stored.log_start_offset), (7, if version >= 5 { 3 } else { -1 }));
        assert!(response.node_endpoints.is_empty() && stored.current_leader.leader_id.0 == -1);
    }
}

#[test]
fn an_answer_is_held_for_not_stored_try_again_and_for_nothing_else() {
    let wait = Duration::from_secs(1);
    let held = |result| write(request(9), &placed(vec![Place::Admitted]), &[result], Duration::ZERO).1;
    assert!(held(Err(Refusal::Unavailable { wait, doubt: Doubt::NotStored })));
    assert!(held(Err(Refusal::Overloaded { what: "bytes", wait })));
    assert!(!held(Err(Refusal::Unavailable { wait, doubt: Doubt::MaybeDelivered })));
    assert!(!held(Err(Refusal::Denied { topic: "t".to_owned() })));
    assert!(!held(Ok(Landed::Inbox)));
}

#[test]
fn who_does_not_heed_a_throttle_waits_for_the_answer_instead() {
    let waiting = |version, owed| Waiting { request: request(version), topics: Vec::new(), admitted: None, owed };
    assert_eq!(waiting(5, Duration::from_secs(2)).kept_back(), Duration::from_secs(2));
    assert_eq!(waiting(5, Duration::from_secs(60)).kept_back(), MAX_KEPT_BACK);
    assert_eq!(waiting(6, Duration::from_secs(2)).kept_back(), Duration::ZERO);
}
