// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A seat's signature over an EIP-712 struct that carries its own deadline.
struct Signature {
    address signer;
    uint64 validUntil;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// @title Records
/// @notice The records that contracts read, exactly as ledger/records.py has them: member for member, name for name.
/// @dev A record's bytes are abi.encode(type hash, members...); keccak256 of them is its EIP-712 hashStruct, by which
/// other records name it; SHA-256 of 0x00 and them is its leaf in the tree.
library Records {
    struct Contract {
        uint64 time;
        bytes32 name;
        uint256 chainId;
        address at;
        bytes32 codeHash;
        bytes32 act;
    }

    struct Parameter {
        uint64 time;
        bytes32 name;
        uint128 value;
        uint64 validFrom;
        bytes32 act;
    }

    struct Seat {
        uint64 time;
        bytes32 role;
        address holder;
        uint64 validFrom;
        uint64 validTo;
        bytes32 act;
    }

    struct Quorum {
        uint64 time;
        bytes32 role;
        uint8 needed;
        bytes32 act;
    }

    struct Asset {
        uint64 time;
        bytes32 asset;
        uint8 decimals;
        uint256 chainId;
        address token;
        uint64 validFrom;
        uint64 validTo;
        bytes32 act;
    }

    struct Account {
        uint64 time;
        bytes32 account;
        bytes32 asset;
        bytes32 fund;
        bytes32 kind;
        bytes32 owner;
        bytes32 party;
        bytes32 act;
    }

    struct RevenueRule {
        uint64 time;
        bytes32 code;
        bytes32 fund;
        uint16 minShare;
        uint64 validFrom;
        bytes32 act;
    }

    struct Project {
        uint64 time;
        bytes32 project;
        bytes32 sector;
        bytes32 place;
        uint128 limit;
        bytes32 document;
    }

    struct Allocation {
        uint64 time;
        bytes32 allocation;
        bytes32 block;
        bytes32 projectHash;
        bytes32 asset;
        uint128 amount;
        bytes32 rateHash;
        bytes32 act;
    }

    struct Commitment {
        uint64 time;
        bytes32 commitment;
        bytes32 allocationHash;
        bytes32 payee;
        uint128 amount;
        bytes32 document;
    }

    struct Milestone {
        uint64 time;
        bytes32 milestone;
        bytes32 commitmentHash;
        uint128 amount;
        bytes32 document;
    }

    struct Certificate {
        uint64 time;
        bytes32 milestoneHash;
        uint128 amount;
        uint8 accepted;
        bytes32 document;
    }

    struct Order {
        uint64 time;
        bytes32 order;
        bytes32 commitmentHash;
        bytes32 allocationHash;
        bytes32 certificateHash;
        bytes32 account;
        uint128 amount;
        bytes32 payee;
    }

    struct Transfer {
        uint64 time;
        bytes32 id;
        bytes32 debit;
        bytes32 credit;
        bytes32 asset;
        uint128 amount;
        bytes32 purpose;
        bytes32 authority;
        bytes32 evidence;
        bytes32 refundTo;
    }

    struct Refund {
        uint64 time;
        bytes32 id;
        bytes32 receiptHash;
        uint128 amount;
        bytes32 to;
        bytes32 document;
    }

    struct Dispute {
        uint64 time;
        bytes32 commitmentHash;
        address by;
        bytes32 document;
    }

    struct Resolution {
        uint64 time;
        bytes32 commitmentHash;
        uint8 outcome;
        bytes32 document;
    }

    struct Acknowledgement {
        uint64 time;
        uint64 index;
        bytes32 rule;
        bytes32 act;
    }

    bytes32 internal constant CONTRACT =
        keccak256("Contract(uint64 time,bytes32 name,uint256 chainId,address at,bytes32 codeHash,bytes32 act)");
    bytes32 internal constant PARAMETER =
        keccak256("Parameter(uint64 time,bytes32 name,uint128 value,uint64 validFrom,bytes32 act)");
    bytes32 internal constant SEAT =
        keccak256("Seat(uint64 time,bytes32 role,address holder,uint64 validFrom,uint64 validTo,bytes32 act)");
    bytes32 internal constant QUORUM = keccak256("Quorum(uint64 time,bytes32 role,uint8 needed,bytes32 act)");
    bytes32 internal constant ASSET = keccak256(
        "Asset(uint64 time,bytes32 asset,uint8 decimals,uint256 chainId,address token,uint64 validFrom,uint64 validTo,bytes32 act)"
    );
    bytes32 internal constant ACCOUNT = keccak256(
        "Account(uint64 time,bytes32 account,bytes32 asset,bytes32 fund,bytes32 kind,bytes32 owner,bytes32 party,bytes32 act)"
    );
    bytes32 internal constant REVENUE_RULE =
        keccak256("RevenueRule(uint64 time,bytes32 code,bytes32 fund,uint16 minShare,uint64 validFrom,bytes32 act)");
    bytes32 internal constant PROJECT =
        keccak256("Project(uint64 time,bytes32 project,bytes32 sector,bytes32 place,uint128 limit,bytes32 document)");
    bytes32 internal constant ALLOCATION = keccak256(
        "Allocation(uint64 time,bytes32 allocation,bytes32 block,bytes32 projectHash,bytes32 asset,uint128 amount,bytes32 rateHash,bytes32 act)"
    );
    bytes32 internal constant COMMITMENT = keccak256(
        "Commitment(uint64 time,bytes32 commitment,bytes32 allocationHash,bytes32 payee,uint128 amount,bytes32 document)"
    );
    bytes32 internal constant MILESTONE =
        keccak256("Milestone(uint64 time,bytes32 milestone,bytes32 commitmentHash,uint128 amount,bytes32 document)");
    bytes32 internal constant CERTIFICATE =
        keccak256("Certificate(uint64 time,bytes32 milestoneHash,uint128 amount,uint8 accepted,bytes32 document)");
    bytes32 internal constant ORDER = keccak256(
        "Order(uint64 time,bytes32 order,bytes32 commitmentHash,bytes32 allocationHash,bytes32 certificateHash,bytes32 account,uint128 amount,bytes32 payee)"
    );
    bytes32 internal constant TRANSFER = keccak256(
        "Transfer(uint64 time,bytes32 id,bytes32 debit,bytes32 credit,bytes32 asset,uint128 amount,bytes32 purpose,bytes32 authority,bytes32 evidence,bytes32 refundTo)"
    );
    bytes32 internal constant REFUND =
        keccak256("Refund(uint64 time,bytes32 id,bytes32 receiptHash,uint128 amount,bytes32 to,bytes32 document)");
    bytes32 internal constant DISPUTE =
        keccak256("Dispute(uint64 time,bytes32 commitmentHash,address by,bytes32 document)");
    bytes32 internal constant RESOLUTION =
        keccak256("Resolution(uint64 time,bytes32 commitmentHash,uint8 outcome,bytes32 document)");
    bytes32 internal constant ACKNOWLEDGEMENT =
        keccak256("Acknowledgement(uint64 time,uint64 index,bytes32 rule,bytes32 act)");

    bytes32 internal constant APPROVE_CONTRACT = keccak256(
        "Approve(Contract record,uint64 validUntil)Contract(uint64 time,bytes32 name,uint256 chainId,address at,bytes32 codeHash,bytes32 act)"
    );
    bytes32 internal constant APPROVE_PARAMETER = keccak256(
        "Approve(Parameter record,uint64 validUntil)Parameter(uint64 time,bytes32 name,uint128 value,uint64 validFrom,bytes32 act)"
    );
    bytes32 internal constant APPROVE_SEAT = keccak256(
        "Approve(Seat record,uint64 validUntil)Seat(uint64 time,bytes32 role,address holder,uint64 validFrom,uint64 validTo,bytes32 act)"
    );
    bytes32 internal constant APPROVE_QUORUM =
        keccak256("Approve(Quorum record,uint64 validUntil)Quorum(uint64 time,bytes32 role,uint8 needed,bytes32 act)");
    bytes32 internal constant APPROVE_ASSET = keccak256(
        "Approve(Asset record,uint64 validUntil)Asset(uint64 time,bytes32 asset,uint8 decimals,uint256 chainId,address token,uint64 validFrom,uint64 validTo,bytes32 act)"
    );
    bytes32 internal constant APPROVE_ACCOUNT = keccak256(
        "Approve(Account record,uint64 validUntil)Account(uint64 time,bytes32 account,bytes32 asset,bytes32 fund,bytes32 kind,bytes32 owner,bytes32 party,bytes32 act)"
    );
    bytes32 internal constant APPROVE_REVENUE_RULE = keccak256(
        "Approve(RevenueRule record,uint64 validUntil)RevenueRule(uint64 time,bytes32 code,bytes32 fund,uint16 minShare,uint64 validFrom,bytes32 act)"
    );
    bytes32 internal constant APPROVE_PROJECT = keccak256(
        "Approve(Project record,uint64 validUntil)Project(uint64 time,bytes32 project,bytes32 sector,bytes32 place,uint128 limit,bytes32 document)"
    );
    bytes32 internal constant APPROVE_ALLOCATION = keccak256(
        "Approve(Allocation record,uint64 validUntil)Allocation(uint64 time,bytes32 allocation,bytes32 block,bytes32 projectHash,bytes32 asset,uint128 amount,bytes32 rateHash,bytes32 act)"
    );
    bytes32 internal constant APPROVE_CERTIFICATE = keccak256(
        "Approve(Certificate record,uint64 validUntil)Certificate(uint64 time,bytes32 milestoneHash,uint128 amount,uint8 accepted,bytes32 document)"
    );
    bytes32 internal constant APPROVE_ORDER = keccak256(
        "Approve(Order record,uint64 validUntil)Order(uint64 time,bytes32 order,bytes32 commitmentHash,bytes32 allocationHash,bytes32 certificateHash,bytes32 account,uint128 amount,bytes32 payee)"
    );
    bytes32 internal constant APPROVE_REFUND = keccak256(
        "Approve(Refund record,uint64 validUntil)Refund(uint64 time,bytes32 id,bytes32 receiptHash,uint128 amount,bytes32 to,bytes32 document)"
    );
    bytes32 internal constant APPROVE_DISPUTE = keccak256(
        "Approve(Dispute record,uint64 validUntil)Dispute(uint64 time,bytes32 commitmentHash,address by,bytes32 document)"
    );
    bytes32 internal constant APPROVE_RESOLUTION = keccak256(
        "Approve(Resolution record,uint64 validUntil)Resolution(uint64 time,bytes32 commitmentHash,uint8 outcome,bytes32 document)"
    );
    bytes32 internal constant APPROVE_ACKNOWLEDGEMENT = keccak256(
        "Approve(Acknowledgement record,uint64 validUntil)Acknowledgement(uint64 time,uint64 index,bytes32 rule,bytes32 act)"
    );

    /// @notice What the Council signs for a kind of record, and how many words that kind has after its type hash.
    /// Both are zero for a kind that is not the Council's to enact on a chain.
    function enactable(bytes32 kind) internal pure returns (bytes32 approveTypeHash, uint256 members) {
        if (kind == SEAT) return (APPROVE_SEAT, 6);
        if (kind == QUORUM) return (APPROVE_QUORUM, 4);
        if (kind == PARAMETER) return (APPROVE_PARAMETER, 5);
        if (kind == CONTRACT) return (APPROVE_CONTRACT, 6);
        if (kind == ASSET) return (APPROVE_ASSET, 8);
        if (kind == ACCOUNT) return (APPROVE_ACCOUNT, 8);
        if (kind == REVENUE_RULE) return (APPROVE_REVENUE_RULE, 6);
        if (kind == PROJECT) return (APPROVE_PROJECT, 6);
        if (kind == ALLOCATION) return (APPROVE_ALLOCATION, 8);
        return (0, 0);
    }

    function hash(Seat memory record) internal pure returns (bytes32) {
        return keccak256(abi.encode(SEAT, record));
    }

    function hash(Quorum memory record) internal pure returns (bytes32) {
        return keccak256(abi.encode(QUORUM, record));
    }

    function hash(Commitment calldata record) internal pure returns (bytes32) {
        return keccak256(abi.encode(COMMITMENT, record));
    }

    function hash(Milestone calldata record) internal pure returns (bytes32) {
        return keccak256(abi.encode(MILESTONE, record));
    }

    function hash(Certificate calldata record) internal pure returns (bytes32) {
        return keccak256(abi.encode(CERTIFICATE, record));
    }

    function hash(Dispute calldata record) internal pure returns (bytes32) {
        return keccak256(abi.encode(DISPUTE, record));
    }

    /// @notice The bytes of an order, which are what the tree has.
    function encode(Order calldata record) internal pure returns (bytes memory) {
        return abi.encode(ORDER, record);
    }

    function encode(Transfer calldata record) internal pure returns (bytes memory) {
        return abi.encode(TRANSFER, record);
    }

    function encode(Refund calldata record) internal pure returns (bytes memory) {
        return abi.encode(REFUND, record);
    }

    function encode(Resolution calldata record) internal pure returns (bytes memory) {
        return abi.encode(RESOLUTION, record);
    }
}
