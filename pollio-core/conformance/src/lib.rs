//! A conformance suite for [`pollio_core::Poller`]: it states every promise once, and runs on every backend.
//!
//! A backend implements [`Backend`] in its unit tests and calls [`suite!`]. Each case then becomes a test of the
//! backend. A case is a generic function in [`cases`]. The lists in [`suite!`] and [`epoll_suite!`] are the table of
//! contents, and a test of this crate compares them with the functions.
//!
//! Some cases use the word ghost. On Linux, a registration outlives its closed descriptor while a duplicate of the
//! descriptor is open, and reports events with the closed number. Such a registration is a ghost.
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

/// Makes each case a test of the calling module, run on the given [`Backend`]. The cases that need epoll are in
/// [`epoll_suite!`].
#[macro_export]
macro_rules! suite {
    ($Backend:ty) => {
        $crate::suite! { @tests $Backend;
            construction: [
                a_new_poller_is_silent,
                a_poller_uses_one_fd,
                a_pollers_fds_are_closed_on_exec,
                with_no_fd_left_a_new_poller_is_emfile,
                a_hundred_thousand_pollers_leak_no_fd,
                fd_0_works_like_any_other,
                a_poller_moves_to_another_thread,
                debug_output_names_the_poller_and_its_fd,
            ]
            registration: [
                a_new_fd_is_added,
                add_watches_for_reading_level_triggered,
                an_fd_that_is_ready_is_reported_by_the_next_wait,
                each_poller_has_its_own_registrations,
                adding_twice_is_already_exists,
                a_failed_add_keeps_the_old_kind_and_generation,
                a_failed_add_keeps_the_old_interest,
                a_failed_add_keeps_the_old_mode,
                an_fd_and_its_dup_are_two_registrations,
                the_same_file_put_back_on_its_number_is_registered_on_epoll_only,
                modify_changes_the_watched_directions,
                interest_is_narrowed_and_widened_again,
                modify_changes_kind_and_generation,
                after_modify_a_pending_event_has_the_new_generation,
                modifying_an_unregistered_fd_is_not_found,
                a_deleted_fd_is_not_reported,
                deleting_an_unregistered_fd_is_not_found,
                deleting_twice_is_not_found,
                after_delete_a_pending_event_is_not_reported,
                a_negative_fd_is_ebadf,
                an_fd_that_was_never_opened_is_ebadf,
                a_closed_fd_is_ebadf,
                a_failed_add_registers_nothing,
                failed_calls_do_not_change_other_registrations,
            ]
            lifetime: [
                closing_the_last_fd_ends_its_registration,
                a_reused_number_is_added,
                a_server_that_never_deletes_works,
                a_reused_number_is_not_registered,
                a_dup_keeps_a_closed_fd_registered_on_epoll_only,
                a_ghost_cannot_be_deleted,
                a_generation_tells_a_ghost_from_its_numbers_new_owner,
                a_generation_tells_a_stale_event_from_a_live_one,
                closing_while_another_thread_waits_ends_the_registration,
                a_copy_in_a_child_keeps_a_closed_fd_registered_on_epoll_only,
                a_copy_in_flight_keeps_a_closed_fd_registered_on_epoll_only,
                #[cfg(target_os = "linux")]
                a_blocked_read_keeps_a_closed_fd_registered_on_epoll_only,
            ]
            file_types: [
                a_regular_file_is_eperm_on_epoll_and_ready_on_kqueue,
                a_directory_cannot_be_watched,
                some_devices_cannot_be_watched,
                a_poller_cannot_watch_itself,
            ]
            timeouts: [
                a_timeout_of_zero_returns_at_once,
                a_negative_timeout_blocks,
                a_wait_without_a_timeout_blocks,
                an_event_ends_a_wait_before_its_timeout,
                a_huge_timeout_blocks,
                a_ready_fd_is_reported_at_once_with_any_timeout,
                a_wait_is_never_early,
                a_thousand_short_waits_are_never_early,
                a_timeout_below_a_millisecond_is_kept,
                a_short_timeout_does_not_spin,
                a_timeout_of_a_nanosecond_ends,
                a_wait_that_times_out_returns_no_events,
                wait_into_clears_the_vector_first,
                a_capacity_of_one_has_the_same_timeouts,
            ]
            signals: [
                a_signal_does_not_end_a_wait,
                a_signal_does_not_end_a_wait_without_a_timeout,
                a_signal_does_not_disturb_a_wait_that_polls,
                an_ignored_signal_does_not_end_a_wait,
                a_wait_times_out_under_constant_signals,
                no_event_is_lost_under_constant_signals,
                signals_do_not_disturb_registering,
                a_wait_continues_after_the_process_was_stopped,
            ]
            scale: [
                as_many_fds_as_a_process_may_open_are_reported,
                a_wait_returns_at_most_max_events,
                a_hundred_thousand_changes_agree_with_a_model,
            ]
            nested: [
                a_poller_is_readable_while_it_has_events,
                an_event_in_an_inner_poller_ends_the_outer_wait,
                a_circle_of_pollers_is_refused,
                pollers_nest_a_few_levels_deep,
                poll_reports_whether_a_poller_has_events,
                a_poller_is_watched_for_writing_on_epoll_only,
            ]
            forks: [
                a_forked_child_that_drops_the_poller_does_not_change_the_parents,
                a_program_that_closes_its_copy_does_not_change_the_parents_poller,
            ]
            ownership: [
                dropping_a_poller_keeps_the_registered_fds_open,
                delete_does_not_close_the_fd,
                failed_calls_open_and_close_no_fd,
                a_wait_allocates_only_what_it_returns,
                registering_and_waking_allocate_nothing,
                a_million_waits_use_no_more_memory,
                a_caller_can_go_on_after_a_panic,
                a_tag_that_panics_breaks_nothing,
                wait_into_grows_its_vector_in_few_steps,
            ]
            modes: [
                a_level_is_reported_until_it_is_drained,
                a_level_is_reported_until_the_buffer_is_full,
                an_edge_is_reported_once_until_more_data_arrives,
                an_edge_that_is_drained_before_the_wait_is_not_reported,
                an_edge_for_writing_is_reported_once_until_there_is_room_again,
                each_direction_has_its_own_edges,
                an_fd_that_is_ready_already_is_reported_after_add,
                modify_reports_an_unread_edge_again,
                a_oneshot_is_reported_once_even_if_more_data_arrives,
                a_fired_oneshot_is_silent_when_the_peer_closes,
                a_fired_oneshot_is_still_registered,
                modify_arms_a_oneshot_again,
                an_armed_oneshot_stays_armed_until_it_fires,
                a_oneshot_fires_once_for_both_directions,
                a_oneshot_fires_once_if_the_batch_has_room_for_one,
                a_oneshot_that_fired_for_writing_is_silent_for_reading,
                a_oneshot_that_fired_for_reading_is_silent_for_writing,
                a_fired_oneshot_does_not_end_a_wait,
                edge_and_oneshot_together_are_a_oneshot,
                modify_changes_each_mode_into_each_other,
                modify_changes_each_mode_of_writing_into_each_other,
                a_mode_that_was_changed_while_idle_is_kept,
                fired_oneshots_hide_no_ready_fd,
                draining_a_nested_poller_until_it_is_empty_misses_nothing,
                a_spurious_event_uses_up_a_oneshot,
            ]
            both_directions: [
                both_directions_are_one_event_with_both_bits,
                one_ready_direction_sets_one_bit,
                no_registration_comes_twice_in_a_batch,
                each_wait_reports_current_readiness,
                a_batch_of_one_delivers_the_other_bit_with_the_next_wait,
                small_batches_lose_no_direction,
                a_second_add_for_the_other_direction_fails,
                a_direction_that_is_no_longer_watched_is_silent,
                modify_changes_the_generation_of_both_directions_together,
                an_fd_and_its_dup_are_two_events,
                a_ghost_is_not_merged_with_its_numbers_new_owner,
            ]
            readiness: [
                a_half_close_by_the_peer_is_read_closed,
                a_half_close_by_both_sides_is_closed_in_both_directions,
                data_of_a_closed_peer_comes_before_the_end,
                a_loop_that_only_reads_gets_to_the_end,
                the_end_is_a_separate_edge,
                a_loop_that_only_writes_gets_to_the_error,
                a_reset_is_an_error,
                after_take_error_the_end_is_still_reported,
                a_loop_that_looks_at_one_bit_gets_to_a_reset,
                a_refused_connection_is_reported,
                a_loop_that_looks_at_one_bit_gets_to_a_refused_connection,
                a_connection_that_succeeds_is_writable,
                an_unconnected_stream_socket_is_hung_up_on_epoll,
                a_unix_connect_to_a_full_backlog_has_to_be_repeated,
                own_shutdown_of_reading_is_read_closed,
                own_shutdown_of_writing_is_write_closed_on_kqueue_only,
                a_listener_is_readable_while_connections_are_pending,
                a_socket_that_listens_after_it_was_added_reports_connections,
                a_listener_that_was_shut_down_is_readable_on_epoll,
                a_unix_peer_that_closes_with_unread_data_is_read_closed,
                a_datagram_peer_that_closes_is_not_an_end,
                a_receive_low_water_mark_delays_readability,
                data_around_an_out_of_band_byte_is_reported,
                a_unix_peer_that_shut_down_reading_is_seen_on_epoll_only,
                own_shutdown_of_reading_drops_queued_data_on_kqueue,
                a_paused_connection_reports_a_reset_if_an_edge_is_watched,
                a_connection_is_reported_by_each_poller_and_accepted_once,
            ]
            pipes: [
                a_pipe_with_data_is_readable,
                a_full_pipe_is_not_writable,
                a_pipe_is_writable_when_there_is_room_for_an_atomic_write,
                a_pipe_without_a_reader_is_error_on_epoll_and_write_closed_on_kqueue,
                a_pipe_without_a_writer_is_read_closed,
                the_end_of_a_pipe_is_a_separate_edge,
                a_pipe_can_be_added_after_its_other_end_has_closed,
                a_fifo_that_never_had_a_writer_is_silent,
                the_data_of_a_fifos_last_writer_is_readable,
                a_writer_comes_back_to_a_fifo,
                own_reads_and_writes_of_a_pipe_are_edges_on_kqueue,
            ]
            ptys: [
                an_idle_pty_is_writable_on_both_sides,
                a_typed_line_is_readable_at_the_slave,
                what_the_slave_writes_is_readable_at_the_master,
                a_closed_slave_is_read_closed_at_the_master,
                a_closed_master_is_read_closed_at_the_slave,
            ]
            datagrams: [
                an_empty_datagram_is_readable,
                ten_datagrams_are_one_event,
                a_refused_datagram_is_reported,
                a_loop_that_only_reads_gets_to_the_error_of_a_datagram,
                a_loop_that_only_writes_gets_to_the_error_of_a_datagram,
            ]
            fairness: [
                events_without_room_in_a_batch_come_later,
                ready_fds_take_turns,
                ready_fds_are_reported_equally_often,
                a_quiet_fd_is_reported_beside_busy_ones,
                reading_does_not_starve_writing,
            ]
            wakers: [
                a_wake_before_a_wait_ends_that_wait,
                a_wake_during_a_wait_ends_that_wait,
                a_wake_is_used_up_by_a_wait_that_polls,
                a_million_wakes_end_one_wait,
                all_wakers_of_a_poller_share_their_wake_ups,
                a_waker_wakes_no_other_poller,
                many_threads_can_wake,
                a_wake_is_never_an_event,
                the_wakers_user_data_cannot_be_registered,
                a_waker_does_not_clash_with_small_fds,
                a_wake_and_ready_events_are_both_seen,
                busy_fds_do_not_starve_a_wake,
                a_waker_may_outlive_its_poller,
                a_waker_uses_one_fd_on_epoll_and_none_on_kqueue,
                a_wake_in_a_signal_handler_ends_the_wait,
                an_arc_of_a_waker_is_a_task_waker,
                a_waker_becomes_a_task_waker_without_an_allocation,
                no_wake_up_is_lost_under_stress,
            ]
            registrars: [
                a_registrar_gives_the_same_results_as_the_poller,
                an_add_by_another_thread_ends_a_wait,
                an_fd_added_by_another_thread_is_watched,
                a_modify_by_another_thread_ends_a_wait,
                a_delete_by_another_thread_does_not_end_a_wait,
                a_close_by_another_thread_does_not_end_a_wait,
                a_registrar_may_outlive_its_poller,
                the_last_registrar_closes_the_pollers_fd,
                a_registrar_has_the_fd_of_its_poller,
                handles_work_as_trait_objects,
                one_of_several_racing_threads_succeeds,
                several_threads_register_while_the_owner_waits,
                workers_that_rearm_oneshots_lose_nothing,
            ]
            kinds: [
                event_kinds_are_returned_with_their_events,
                kinds_that_tags_defines_are_returned_with_their_events,
                every_tag_is_returned,
                generations_are_returned_with_their_events,
                a_generation_tells_owners_of_a_number_apart,
                user_data_that_does_not_decode_is_skipped,
                a_wait_with_only_undecodable_user_data_is_empty,
                a_tag_that_decodes_as_another_kind_loses_no_event,
                a_tag_may_register_while_an_event_is_decoded,
                a_tag_may_register_while_an_event_is_encoded,
                an_arming_is_not_used_up_by_an_earlier_event,
                a_tag_that_changes_its_answer_loses_no_wake_up,
                a_poller_can_be_boxed,
                generic_code_needs_one_bound,
                a_capacity_is_between_one_and_max_events,
            ]
            model: [
                random_operations_agree_with_the_model,
            ]
        }
    };
    (@tests $Backend:ty; $(
        $module:ident: [ $( $(#[$of_case:meta])* $case:ident ),* $(,)? ]
    )*) => {
        $(
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

/// Makes each case that needs epoll a test, in a module `epoll`. For backends on Linux's epoll, beside [`suite!`].
#[cfg(target_os = "linux")]
#[macro_export]
macro_rules! epoll_suite {
    ($Backend:ty) => {
        mod epoll {
            use super::*;

            $crate::suite! { @tests $Backend;
                priority: [
                    an_out_of_band_byte_is_priority,
                    a_hang_up_passes_the_mask_of_priority_alone,
                    priority_has_modes,
                    #[ignore = "sets the host name of a new namespace: needs root, user namespaces or sudo"]
                    a_changed_attribute_is_priority_and_error,
                ]
                linux_fds: [
                    an_eventfds_counter_decides_its_readiness,
                    a_timerfd_is_readable_when_it_expires,
                    a_signalfd_is_readable_while_a_signal_is_pending,
                    an_inotify_fd_is_readable_when_its_directory_changes,
                    a_pidfd_is_readable_when_its_process_has_ended,
                ]
                file_types: [
                    a_memfd_is_eperm_on_epoll,
                    an_o_path_fd_is_ebadf_on_epoll,
                    a_proc_file_is_watched_if_it_can_be_polled,
                ]
                forks: [
                    a_childs_registration_is_reported_in_the_parent_on_epoll_only,
                ]
                readiness: [
                    a_queued_error_is_reported_until_the_queue_is_read_on_epoll,
                ]
                datagrams: [
                    an_unconnected_unix_socket_is_writable_while_its_receiver_is_full_on_epoll,
                ]
                fairness: [
                    all_fds_of_several_processes_are_reported,
                ]
                kinds: [
                    foreign_user_data_is_returned_or_skipped,
                ]
            }
        }
    };
}
