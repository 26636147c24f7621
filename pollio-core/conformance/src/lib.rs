//! Every promise of [`pollio_core::Poller`], stated once and run on every backend.
//!
//! A backend's unit tests name themselves a [`Backend`] and call [`suite!`]; each case then is a test of
//! theirs. A case is a generic function in [`cases`]; the list in [`suite!`] is the suite's table of contents,
//! and a test of this crate holds the two together.
#![cfg(any(target_os = "linux", target_os = "macos"))]

pub mod assertions;
pub mod audit;
pub mod backend;
pub mod cases;
pub mod fds;
pub mod interests;
pub mod processes;
pub mod threads;

pub use backend::{Backend, Kernel};

/// Makes each case a test of the calling module, on the [`Backend`] given.
///
/// The list is the table of contents: for each module of [`cases`], its cases. `tests/complete.rs` holds it
/// against the source.
#[macro_export]
macro_rules! suite {
    ($Backend:ty) => {
        $crate::suite! { @tests $Backend;
            construction: [
                a_new_poller_is_silent,
                a_poller_costs_one_fd,
                its_fds_are_closed_on_exec,
                a_full_fd_table_is_emfile,
                a_hundred_thousand_pollers_leave_no_fd,
                fd_0_is_an_fd_like_any_other,
                a_poller_moves_to_another_thread,
                debug_output_names_the_poller_and_its_fd,
            ]
            registration: [
                a_fresh_fd_is_added,
                add_is_for_reading_and_level_triggered,
                an_fd_that_is_ready_is_reported_by_the_next_wait,
                an_fd_is_registered_with_each_poller_apart,
                adding_twice_is_already_exists,
                a_refused_add_leaves_the_old_word,
                a_refused_add_leaves_the_old_interest,
                a_refused_add_leaves_the_old_mode,
                an_fd_and_its_dup_are_two_registrations,
                the_same_file_put_back_on_its_number_is_registered_on_epoll_only,
                modify_changes_what_is_watched,
                interest_is_narrowed_and_widened_again,
                modify_changes_kind_and_generation,
                what_was_ready_before_a_modify_comes_with_the_new_word,
                modifying_what_is_not_registered_is_not_found,
                a_deleted_fd_is_reported_no_more,
                deleting_what_is_not_registered_is_not_found,
                deleting_twice_is_not_found,
                a_delete_keeps_back_what_was_not_fetched,
                a_negative_fd_is_ebadf,
                an_fd_that_was_never_opened_is_ebadf,
                a_closed_fd_is_ebadf,
                a_failed_add_leaves_nothing_registered,
                failed_calls_leave_other_registrations_alone,
            ]
            lifetime: [
                closing_the_last_fd_ends_its_registration,
                a_number_that_is_used_again_is_added,
                a_server_that_never_deletes_works,
                a_number_that_is_used_again_is_not_registered,
                a_dup_keeps_a_closed_fd_registered_on_epoll_only,
                a_ghost_cannot_be_deleted,
                a_generation_tells_a_ghost_from_its_numbers_new_owner,
                a_generation_tells_a_stale_event_from_a_live_one,
                closing_while_another_thread_waits_ends_the_registration,
                a_copy_in_a_child_keeps_a_closed_fd_registered_on_epoll_only,
                a_copy_in_flight_keeps_a_closed_fd_registered_on_epoll_only,
                a_blocked_read_keeps_a_closed_fd_registered_on_epoll_only,
            ]
            file_types: [
                a_regular_file_is_eperm_on_epoll_and_ready_on_kqueue,
                a_directory_is_refused,
                a_device_that_cannot_be_polled_is_refused,
                a_poller_does_not_watch_itself,
                a_memfd_is_eperm_on_epoll,
                an_fd_of_a_path_alone_is_ebadf_on_epoll,
                a_proc_file_is_watched_where_it_can_be,
            ]
            timeouts: [
                a_timeout_of_zero_returns_at_once,
                a_negative_timeout_blocks,
                no_timeout_blocks,
                an_event_ends_a_wait_before_its_time,
                a_huge_timeout_blocks,
                what_is_ready_is_handed_out_whatever_the_timeout,
                a_wait_is_never_early,
                a_thousand_short_waits_are_none_of_them_early,
                a_timeout_below_a_millisecond_is_kept,
                a_short_timeout_is_no_busy_loop,
                a_timeout_of_a_nanosecond_ends,
                a_wait_that_expires_returns_nothing,
                wait_into_clears_then_fills,
                a_capacity_of_one_has_the_same_timeouts,
            ]
            signals: [
                a_signal_does_not_end_a_wait,
                a_signal_does_not_end_a_wait_without_end,
                a_signal_does_not_disturb_a_wait_that_polls,
                an_ignored_signal_does_not_end_a_wait,
                a_wait_ends_in_a_storm_of_signals,
                no_event_is_lost_in_a_storm_of_signals,
                a_signal_does_not_disturb_registering,
                a_wait_goes_on_after_the_process_was_stopped,
            ]
            scale: [
                as_many_fds_as_there_can_be_are_told_of,
                no_more_than_max_events_come_from_one_wait,
                a_hundred_thousand_changes_agree_with_a_model,
            ]
            nested: [
                a_poller_is_readable_while_it_has_events,
                an_event_in_a_poller_ends_the_wait_of_the_one_around_it,
                a_circle_of_pollers_is_refused,
                pollers_nest_to_some_depth,
                poll_says_whether_a_poller_has_events,
                a_poller_is_watched_for_writing_on_epoll_only,
            ]
            forks: [
                a_forked_child_that_drops_the_poller_leaves_the_parents,
                a_started_program_that_closes_the_poller_leaves_the_parents,
                a_childs_own_fd_is_told_of_in_the_parent_on_epoll_only,
            ]
            ownership: [
                dropping_a_poller_leaves_its_fds_open,
                deleting_an_fd_leaves_it_open,
                calls_that_fail_leave_the_fds_as_they_were,
                a_wait_allocates_only_what_it_returns,
                registering_and_waking_allocate_nothing,
                memory_is_flat_over_a_million_waits,
                a_caller_that_panics_can_go_on,
                a_role_that_panics_breaks_nothing,
                wait_into_grows_its_vector_in_few_steps,
            ]
            modes: [
                a_level_is_reported_until_it_is_drained,
                a_level_is_reported_until_there_is_no_room,
                an_edge_is_reported_once_until_more_arrives,
                an_edge_that_is_drained_before_the_wait_is_silent,
                an_edge_of_room_is_reported_once_until_there_is_room_again,
                an_edge_in_both_directions_fires_for_each,
                an_fd_that_is_ready_already_is_reported_after_add,
                modify_reports_an_unread_edge_again,
                a_oneshot_is_reported_once_though_more_arrives,
                a_fired_oneshot_is_silent_when_the_peer_goes,
                a_fired_oneshot_is_still_registered,
                modify_arms_a_oneshot_again,
                an_armed_oneshot_stays_armed_until_it_fires,
                a_oneshot_fires_once_for_both_directions,
                a_oneshot_fires_once_where_a_batch_has_room_for_one,
                a_oneshot_that_fired_for_writing_is_silent_for_reading,
                a_oneshot_that_fired_for_reading_is_silent_for_writing,
                a_fired_oneshot_does_not_end_a_wait,
                an_edge_that_is_a_oneshot_is_a_oneshot,
                each_mode_changes_into_each,
                each_mode_of_writing_changes_into_each,
                a_mode_changed_while_idle_holds,
                fired_oneshots_hide_no_ready_fd,
                draining_a_nested_poller_until_it_is_empty_misses_nothing,
                a_spurious_event_uses_up_a_oneshot,
            ]
            both_directions: [
                both_directions_are_one_event_with_both_bits,
                one_direction_is_one_bit,
                no_registration_comes_twice_in_a_batch,
                a_wait_owes_nothing_to_the_one_before,
                a_batch_of_one_delivers_the_other_bit_with_the_next_wait,
                small_batches_lose_no_direction,
                the_second_direction_is_not_added_but_modified,
                a_direction_that_is_taken_away_is_silent,
                both_directions_take_a_new_word_together,
                an_fd_and_its_dup_are_two_events,
                a_ghost_is_not_merged_with_its_numbers_new_owner,
            ]
            readiness: [
                a_peer_that_sends_no_more_is_read_closed,
                both_sides_that_send_no_more_are_closed_in_both_directions,
                what_a_closed_peer_sent_comes_before_the_end,
                a_loop_that_only_reads_gets_to_the_end,
                the_end_is_an_edge_of_its_own,
                a_loop_that_only_writes_gets_to_the_error,
                a_reset_is_an_error,
                an_error_that_was_taken_is_gone_and_the_end_stays,
                a_loop_that_looks_at_one_bit_gets_to_a_reset,
                a_refused_connection_is_told_of,
                a_loop_that_looks_at_one_bit_gets_to_a_refused_connection,
                a_connection_that_succeeds_is_writable,
                an_unconnected_stream_socket_is_hung_up_on_epoll,
                a_unix_connect_to_a_full_backlog_has_to_be_repeated,
                ones_own_end_of_reading_is_read_closed,
                ones_own_end_of_writing_is_write_closed_on_kqueue_only,
                a_listener_is_readable_while_connections_are_pending,
                a_socket_that_listens_after_it_was_added_tells_of_connections,
                a_listener_that_is_shut_down_is_readable,
                a_peer_that_is_gone_with_unread_data_is_read_closed,
                a_datagram_peer_that_is_gone_is_no_end,
                a_queued_error_is_told_of_until_the_queue_is_read_on_epoll,
                a_low_water_mark_is_honoured,
                data_around_an_out_of_band_byte_is_told_of,
                a_unix_peer_that_shut_down_reading_is_seen_on_epoll_only,
                own_shutdown_of_reading_drops_queued_data_on_kqueue,
                a_paused_connection_reports_a_reset_if_an_edge_is_watched,
                a_connection_is_reported_by_each_poller_and_accepted_once,
            ]
            pipes: [
                a_pipe_with_data_is_readable,
                a_full_pipe_is_not_writable,
                a_pipe_is_writable_when_there_is_room_for_an_atomic_write,
                a_pipe_without_a_reader_is_an_error,
                a_pipe_without_a_writer_is_read_closed,
                the_end_of_a_pipe_is_an_edge_of_its_own,
                a_pipe_is_added_after_its_other_end_is_gone,
                a_fifo_that_never_had_a_writer_is_silent,
                the_last_writer_of_a_fifo_leaves,
                a_writer_comes_back_to_a_fifo,
                own_reads_and_writes_of_a_pipe_are_edges_on_kqueue,
            ]
            ptys: [
                an_idle_pty_is_writable_at_both_sides,
                a_typed_line_is_readable_at_the_slave,
                what_the_slave_writes_is_readable_at_the_master,
                the_master_is_told_that_the_slave_is_closed,
                the_slave_is_told_that_the_master_is_closed,
            ]
            datagrams: [
                an_empty_datagram_is_readable,
                ten_datagrams_are_one_event,
                a_refused_datagram_is_told_of,
                a_loop_that_only_reads_gets_to_the_error_of_a_datagram,
                a_loop_that_only_writes_gets_to_the_error_of_a_datagram,
                an_unconnected_unix_socket_is_writable_while_its_receiver_is_full,
            ]
            #[cfg(target_os = "linux")]
            priority: [
                an_out_of_band_byte_is_priority,
                priority_has_modes,
                #[ignore = "sets the host name of a new namespace: needs root, user namespaces or sudo"]
                a_changed_attribute_is_priority_and_error,
            ]
            #[cfg(target_os = "linux")]
            linux_fds: [
                an_eventfd_is_ready_as_its_counter_is,
                a_timerfd_is_readable_when_its_time_has_come,
                a_signalfd_is_readable_while_a_signal_is_pending,
                an_inotify_fd_is_readable_when_something_happened,
                a_pidfd_is_readable_when_its_process_has_ended,
            ]
            fairness: [
                what_a_batch_has_no_room_for_comes_later,
                ready_fds_take_turns,
                ready_fds_are_told_of_equally_often,
                a_quiet_fd_is_told_of_beside_hot_ones,
                reading_starves_no_writing,
                all_fds_of_several_processes_are_told_of,
            ]
            wakers: [
                a_wake_before_a_wait_ends_it,
                a_wake_during_a_wait_ends_it,
                a_wake_is_used_up_by_a_wait_that_polls,
                a_million_wakes_are_one,
                all_wakers_of_a_poller_are_one,
                a_waker_wakes_no_other_poller,
                many_threads_wake,
                a_wake_is_never_an_event,
                the_wakers_word_cannot_be_registered,
                a_waker_is_no_fd_of_the_callers,
                a_wake_beside_ready_events_loses_neither,
                a_wake_is_not_starved_by_hot_fds,
                a_waker_outlives_its_poller,
                a_waker_costs_one_fd_on_epoll_and_none_on_kqueue,
                a_wake_from_a_signal_handler_ends_the_wait,
                a_waker_is_a_task_waker,
                no_wake_up_is_lost_under_stress,
            ]
            registrars: [
                a_registrar_answers_as_the_poller_does,
                an_add_by_another_thread_ends_a_wait,
                an_fd_added_by_another_thread_is_watched,
                a_modify_by_another_thread_ends_a_wait,
                a_delete_by_another_thread_ends_no_wait,
                a_close_by_another_thread_ends_no_wait,
                a_registrar_outlives_its_poller,
                the_last_registrar_closes_the_pollers_fd,
                one_of_several_threads_wins,
                several_threads_register_while_the_owner_waits,
                workers_that_arm_oneshots_again_lose_nothing,
            ]
            kinds: [
                a_servers_roles_come_back,
                roles_of_ones_own_come_back,
                every_tag_comes_back,
                generations_come_back,
                a_generation_tells_owners_of_a_number_apart,
                a_word_that_does_not_decode_is_skipped,
                a_wait_for_a_word_that_does_not_decode_is_empty,
                words_from_elsewhere_are_delivered_or_skipped,
                a_role_that_comes_back_as_another_loses_no_event,
                a_tag_may_register_while_an_event_is_decoded,
                a_tag_may_register_while_an_event_is_encoded,
                an_arming_is_not_used_up_by_an_earlier_event,
                a_tag_that_changes_its_answer_loses_no_wake_up,
                a_poller_works_boxed,
                generic_code_needs_one_bound,
                a_capacity_is_one_to_max_events,
            ]
            model: [
                random_operations_agree_with_the_model,
            ]
        }
    };
    (@tests $Backend:ty; $(
        $(#[$of_module:meta])* $module:ident: [ $( $(#[$of_case:meta])* $case:ident ),* $(,)? ]
    )*) => {
        $(
            $(#[$of_module])*
            mod $module {
                use super::*;

                $(
                    $(#[$of_case])*
                    #[test]
                    fn $case() {
                        $crate::cases::$module::$case::<$Backend>();
                    }
                )*
            }
        )*
    };
}
