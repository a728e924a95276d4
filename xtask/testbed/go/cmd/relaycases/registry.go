package main

// needs says what a case asks of the command line.
type needs uint8

const (
	needTLS needs = 1 << iota
	needMesh
	needSTUN
	needHTTPPort
	needWS
	needVarz
	needSlow
)

type testCase struct {
	name  string
	needs needs
	run   func(*run)
}

// cases is the list, in the order in which they run. Add new ones at the end
// of their group; the runner compares the length with a number it keeps.
var cases = []testCase{
	// cases_relay.go
	{"a_packet_from_a_reaches_b", 0, packetFromAReachesB},
	{"a_packet_from_b_reaches_a", 0, packetFromBReachesA},
	{"a_packet_to_oneself_comes_back", 0, packetToOneself},
	{"an_empty_packet_arrives", 0, emptyPacket},
	{"the_largest_packet_arrives", 0, largestPacket},
	{"a_packet_one_byte_too_large_closes", 0, oversizedPacket},
	{"packets_of_many_sizes_arrive_in_order", 0, packetsInOrder},
	{"a_slow_receiver_does_not_hold_up_another", 0, slowReceiver},
	{"a_ping_is_answered", 0, pingAnswered},
	{"a_ping_of_1000_bytes_is_answered", 0, longPing},
	{"a_ping_of_the_wrong_length_closes", 0, wrongPing},
	{"an_unknown_frame_is_ignored", 0, unknownFrame},
	{"home_is_noted_before_server_info", 0, preferredAtLogin},
	{"home_of_the_wrong_length_closes", 0, wrongPreferred},
	{"server_info_comes_first_under_traffic", 0, serverInfoFirst},

	// cases_dup.go
	{"the_newest_duplicate_receives", 0, newestDuplicate},
	{"the_duplicate_that_spoke_last_receives", 0, lastWriter},
	{"the_remaining_duplicate_receives", 0, remainingDuplicate},

	// cases_gone.go
	{"a_departure_is_told_to_those_it_sent_to", 0, peerGone},
	{"a_second_departure_is_told_or_not", 0, peerGoneAgain},
	{"a_departure_is_not_told_to_strangers", 0, peerGoneStranger},
	{"disco_to_nobody_is_answered_three_times", 0, notHere},
	{"data_to_nobody_is_not_answered", 0, notHereData},

	// cases_mesh.go
	{"a_watcher_sees_who_is_there_and_who_comes", needMesh, meshWatch},
	{"a_watcher_sees_each_kind_of_client", needMesh, meshFlags},
	{"a_watcher_sees_duplicates_come_and_the_last_go", needMesh, meshDuplicates},
	{"a_forwarded_packet_keeps_its_source", needMesh, meshForward},
	{"forwarded_disco_to_nobody_is_answered", needMesh, meshForwardNotHere},
	{"a_closed_peer_is_cut_off", needMesh, meshClosePeer},
	{"mesh_frames_without_the_key_close", 0, meshWithoutKey},
	{"a_wrong_mesh_key_makes_a_regular_client", needMesh, meshWrongKey},

	// cases_start.go
	{"fast_start_by_region", needTLS, fastStartByRegion},
	{"fast_start_by_url", needTLS, fastStartByURL},
	{"slow_start_with_tls_1_2", needTLS, slowStartTLS12},
	{"the_meta_certificate_is_as_clients_expect", needTLS, metaCert},
	{"a_pin_is_honoured", needTLS, pinned},
	{"tls_1_1_is_refused", needTLS, oldTLS},
	{"tls_without_a_server_name", needTLS, withoutSNI},

	// cases_login.go
	{"the_slow_greeting_byte_for_byte", 0, slowGreeting},
	{"the_fast_greeting_byte_for_byte", 0, fastGreeting},
	{"any_spelling_of_the_upgrade_is_taken", 0, upgradeSpelling},
	{"an_upgrade_by_post_is_taken_or_refused", 0, upgradeByPost},
	{"client_info_spellings_that_are_admitted", 0, infoAdmitted},
	{"client_info_spellings_that_are_refused", 0, infoRefused},
	{"a_login_out_of_order_closes", 0, loginOutOfOrder},
	{"a_zero_key_closes_and_harms_nobody", 0, zeroKey},
	{"a_silent_client_is_closed", needSlow, silentClient},
	{"an_idle_client_is_kept_alive", needSlow, keepAlive},

	// cases_ws.go
	{"websocket_both_ways", needWS, webSocketBothWays},
	{"websocket_to_plain_and_back", needWS, webSocketToPlain},
	{"websocket_messages_need_not_be_frames", needWS, webSocketFraming},
	{"a_websocket_text_message_closes", needWS, webSocketText},
	{"a_websocket_upgrade_without_derp_is_plain_derp", 0, webSocketLegacy},

	// cases_http.go
	{"http_endpoints", 0, httpEndpoints},
	{"http_browser_headers", 0, httpBrowserHeaders},
	{"http_upgrade_is_required", 0, httpUpgradeRequired},
	{"http_captive_portal_challenges", 0, httpChallenges},
	{"http_connect_is_refused", needTLS, httpConnect},
	{"http_port_captive_portal", needHTTPPort, httpPortChallenges},
	{"http_port_redirects", needHTTPPort, httpPortRedirects},
	{"debug_pages", needVarz, debugPages},

	// cases_stun.go
	{"stun_answers_a_client", needSTUN, stunAnswers},
	{"stun_ignores_others", needSTUN, stunIgnores},

	// cases_counters.go
	{"counters_follow_traffic", needVarz, countersFollow},
	{"home_counters_follow_clients", needVarz, homeCounters},
	{"all_packets_are_accounted_for", needVarz, countersBalance},
}
