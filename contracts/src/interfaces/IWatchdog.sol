// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Records, Signature} from "../Records.sol";
import {ICouncil} from "./ICouncil.sol";

/// @title IWatchdog
/// @notice Anybody puts a breach before it that anchored records show by themselves, or against the Council's register;
/// the commitment concerned is then frozen, or all of the treasury where the log itself is at fault.
/// @dev A record that nobody with a seat signed has no effect and proves nothing, whoever logged it: where a breach is of
/// orders, each comes with the signatures of a quorum of the Authority. Deadlines of those do not matter any more, nor
/// whether the seats still run: they say who is to answer.
/// Absence cannot be proved: what is missing from the ledger is for the audit to find.
/// WARNING: a freeze ends by an act of the Council and the Auditor alone, which stays in the ledger for ever (LEAKS 26).
interface IWatchdog {
    /// @notice A record with its place in an anchored head.
    struct Proved {
        bytes record;
        uint64 index;
        bytes32[] proof;
    }

    /// @notice An order with its place, and the Authority's signatures over it, ascending by signer.
    struct SignedOrder {
        Records.Order order;
        uint64 index;
        bytes32[] proof;
        Signature[] approvals;
    }

    /// @notice The anchored head that everything is proved against.
    struct Head {
        uint64 size;
        uint64 time;
    }

    event Breached(bytes32 indexed rule, uint64 indexed index, bytes32 indexed commitmentHash);
    event Lifted(bytes32 indexed rule, uint64 indexed index, bytes32 indexed commitmentHash);

    error TooFewOrders(uint256 least, uint256 given);
    error AnotherAllocation(bytes32 first, bytes32 found);
    error OrdersNotAscending(uint64 previous, uint64 index);
    error NoBreach(uint256 allowed, uint256 found);
    error NoBreachWord(bytes32 allowed, bytes32 found);
    error AlreadyBreached(bytes32 rule, uint64 index);
    error NoSuchBreach(bytes32 rule, uint64 index);
    error CommitmentDiffers(bytes32 named, bytes32 found);
    error CertificateDiffers(bytes32 named, bytes32 found);
    error TransferOfAnother(bytes32 named, bytes32 found);
    error RegisterStillOpen(uint256 provableFrom, uint256 time);
    error WrongLength(uint256 expected, uint256 found);
    error AnotherKind(bytes32 needed, bytes32 found);
    error ActMissing(bytes32 recordHash);
    error NoQuorum(bytes32 role, uint256 needed, uint256 given);
    error SignersNotAscending(address previous, address signer);
    error NeverSeated(bytes32 role, address signer);
    error WrongSigner(address named, address recovered);
    error Frozen(bytes32 commitmentHash, uint256 breaches, uint256 breachesOfTheLog);

    /// @notice O7: distinct orders of one allocation are more than it. The last one's commitment is frozen.
    function reportOverspent(Head calldata head, SignedOrder[] calldata orders) external;

    /// @notice O3: an order pays another than its commitment says.
    function reportPayee(Head calldata head, SignedOrder calldata order, Records.Commitment calldata commitment)
        external;

    /// @notice O1: an order names an allocation that the Council's register does not have, 14 days after it was anchored.
    function reportUnregistered(Head calldata head, SignedOrder calldata order) external;

    /// @notice O6: two orders for one milestone. The later one's commitment is frozen.
    function reportTwice(
        Head calldata head,
        SignedOrder calldata earlier,
        SignedOrder calldata later,
        Records.Certificate calldata earlierCertificate,
        Records.Certificate calldata laterCertificate
    ) external;

    /// @notice O2: an order pays for what the Certifier refused.
    function reportRefused(Head calldata head, SignedOrder calldata order, Records.Certificate calldata certificate)
        external;

    /// @notice G7: a transfer books an order to the republican budget before the end of retention.
    function reportRepublic(Head calldata head, Proved calldata transfer, SignedOrder calldata order) external;

    /// @notice H2: a later record has an earlier time. The treasury is frozen.
    function reportTime(Head calldata head, Proved calldata earlier, Proved calldata later) external;

    /// @notice E1: a record begins with the type hash of no kind. The treasury is frozen.
    function reportKind(Head calldata head, Proved calldata record) external;

    /// @notice End the freeze of one breach: an Acknowledgement in the ledger, signed by the Council and the Auditor.
    function lift(
        Head calldata head,
        Proved calldata acknowledgement,
        Signature[] calldata councilApprovals,
        Signature[] calldata auditorApprovals
    ) external;

    /// @notice Refuse if this commitment is frozen, or the treasury is.
    function checkFree(bytes32 commitmentHash) external view;

    /// @notice How many breaches freeze a commitment; those of the log, which freeze the treasury, are under zero.
    function frozen(bytes32 commitmentHash) external view returns (uint256);

    /// @notice 0 for a breach that nobody has shown, 1 for one that freezes, 2 for one that was lifted.
    function breachState(bytes32 rule, uint64 index) external view returns (uint8);

    function council() external view returns (ICouncil);
}
