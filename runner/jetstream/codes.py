"""JetStream's error codes (`err_code`) that the runner handles; beside each is the server's own text."""

ACCOUNT_EXCEEDED = 10002  # resource limits exceeded for account
NO_SUITABLE_PEERS = 10005  # no suitable peers for placement: the text says why
CONSUMER_NOT_FOUND = 10014  # consumer not found
INSUFFICIENT_RESOURCES = 10023  # insufficient resources
MAXIMUM_CONSUMERS = 10026  # maximum consumers limit reached
MAXIMUM_STREAMS = 10027  # maximum number of streams reached
MEMORY_EXCEEDED = 10028  # insufficient memory resources available
NO_MESSAGE_FOUND = 10037  # no message found: answers a request for a message
NOT_ENABLED_FOR_ACCOUNT = 10039  # JetStream not enabled for account
SEQUENCE_NOT_FOUND = 10043  # sequence {seq} not found: answers the removal of a message
STORAGE_EXCEEDED = 10047  # insufficient storage resources available
INVALID_CONFIG = (
    10052  # the text says why: duplicates window can not be larger then server limit of {duration}
)
MESSAGE_EXCEEDS_MAXIMUM = 10054  # message size exceeds maximum allowed
DELETE_FAILED = 10057  # message deletion failed: the text says why
STREAM_NAME_IN_USE = 10058  # stream name already in use with a different configuration
STREAM_NOT_FOUND = 10059  # stream not found
SUBJECTS_OVERLAP = 10065  # subjects overlap with an existing stream
WRONG_LAST_SEQUENCE = 10071  # wrong last sequence: {seq}; a compare-and-set that came too late
NOT_CLUSTERED = 10074  # replicas > 1 not supported in non-clustered mode
NOT_ENABLED = 10076  # JetStream not enabled
STORE_FAILED = 10077  # storing a message failed: maximum messages exceeded, and the stream's other limits
TOO_LARGE_TEXT = "message too large"
"""The text of STORE_FAILED where a message is larger than file storage takes, whatever the stream's limits."""
HEADER_EXCEEDS_MAXIMUM = 10097  # header size exceeds maximum allowed of 64k
WORK_QUEUE_UNFILTERED = 10099  # multiple non-filtered consumers not allowed on workqueue stream
WORK_QUEUE_NOT_UNIQUE = 10100  # filtered consumer not unique on workqueue stream
MAX_BYTES_REQUIRED = 10113  # account requires a stream config to have max bytes set
STREAM_OFFLINE = 10118  # stream is offline
CONSUMER_OFFLINE = 10119  # consumer is offline
NO_LIMITS = 10120  # no JetStream default or applicable tiered limit present: the account's tier for these replicas is gone
CONSUMER_EXISTS = 10148  # consumer already exists
CONSUMER_DOES_NOT_EXIST = 10149  # consumer does not exist: answers an update
DUPLICATE_IN_PROCESS = 10158  # duplicate message id is in process (R3)
WRONG_LAST_SEQUENCE_YET = 10164  # wrong last sequence
"""Another write that expects a sequence of the same subject is not stored yet (R3): it may be ours, whose answer was lost."""
TTL_DISABLED = 10166  # per-message TTL is disabled
TOO_MANY_REQUESTS = 10167  # too many requests: the stream has not stored yet what it was sent
BATCH_DISABLED = 10174  # atomic publish is disabled
BATCH_INCOMPLETE = 10176  # atomic publish batch is incomplete
BATCH_DUPLICATE = 10201  # atomic publish batch contains duplicate message id
BATCHES_IN_FLIGHT = frozenset({10210, 10211})  # atomic, batch publish too many inflight

UNDECIDED = frozenset({*range(10004, 10010), STREAM_OFFLINE, CONSUMER_OFFLINE})
"""The cluster has no leader, the server that answered is not the leader, or servers are away: no decision was made."""
NO_JETSTREAM = frozenset({NOT_ENABLED_FOR_ACCOUNT, NOT_ENABLED})
FULL = frozenset(
    {
        ACCOUNT_EXCEEDED,
        INSUFFICIENT_RESOURCES,
        NO_LIMITS,
        MEMORY_EXCEEDED,
        STORAGE_EXCEEDED,
        STORE_FAILED,
    }
)
FEW_SERVERS = frozenset({NO_SUITABLE_PEERS, NOT_CLUSTERED})
"""The cluster has fewer servers than the stream wants replicas, or does not know that they are up."""
TOO_LARGE = frozenset({MESSAGE_EXCEEDS_MAXIMUM, HEADER_EXCEEDS_MAXIMUM})
BUSY = frozenset(
    {
        DUPLICATE_IN_PROCESS,
        WRONG_LAST_SEQUENCE_YET,
        TOO_MANY_REQUESTS,
        BATCH_INCOMPLETE,
        *BATCHES_IN_FLIGHT,
    }
)
"""The same Msg-Id is being stored, a batch was abandoned on its way, or too many messages or batches are in flight. The write is tried
again; this is never a handler's failure.
"""
NO_CONSUMER = frozenset({CONSUMER_NOT_FOUND, STREAM_NOT_FOUND})
NO_MESSAGE = frozenset({NO_MESSAGE_FOUND, SEQUENCE_NOT_FOUND})
NOTHING_STORED = frozenset({*NO_MESSAGE, STREAM_NOT_FOUND})
