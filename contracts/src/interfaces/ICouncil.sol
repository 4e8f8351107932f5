// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signature} from "../Records.sol";
import {ILedgerAnchor} from "./ILedgerAnchor.sol";

/// @title ICouncil
/// @notice What the Council has decided, as far as contracts need it: who holds which office, how many must sign, which
/// assets, accounts, shares, projects and allocations there are.
/// @dev Everything here is a record of the ledger that is anchored and that the Council's quorum signed. Anybody may
/// bring one: who sends the transaction decides nothing. There is no owner, and nothing is ever deleted.
/// It makes its LedgerAnchor itself, in its constructor.
/// WARNING: the order in which acts on one object take effect is that of their index in the ledger. An act that nobody
/// brought before a later one on the same object can never be brought.
/// WARNING: if fewer council seats are in their term than must sign, nothing can be enacted but seats of the council, by
/// those who sat in it, with 180 days' notice (LEAKS 14).
interface ICouncil {
    struct Asset {
        address token;
        uint8 decimals;
        uint64 validFrom;
        uint64 validTo;
    }

    struct Account {
        bytes32 asset;
        bytes32 fund;
        bytes32 kind;
        bytes32 owner;
        uint64 enactedAt;
    }

    struct Allocation {
        bytes32 projectHash;
        bytes32 asset;
        uint128 amount;
    }

    event Withdrawn(bytes32 indexed recordHash, address indexed signer);
    event Enacted(bytes32 indexed kind, bytes32 indexed recordHash, bytes32 indexed object, uint64 index);

    error UnknownKind(bytes32 typeHash);
    error WrongLength(uint256 expected, uint256 found);
    error NotAName(bytes32 word);
    error ActMissing(bytes32 recordHash);
    error AlreadyEnacted(bytes32 recordHash);
    error OutOfOrder(uint64 lastIndex, uint64 index);
    error NameTaken(bytes32 name);

    error NoQuorum(bytes32 role, uint256 needed, uint256 given);
    error SignatureWithdrawn(bytes32 recordHash, address signer);
    error RecoveryEndsTerm(uint64 validTo, uint64 wanted);
    error SignatureExpired(uint64 validUntil, uint256 time);
    error SignersNotAscending(address previous, address signer);
    error NotSeated(bytes32 role, address holder);
    error WrongSigner(address named, address recovered);

    error UnknownRole(bytes32 role);
    error HolderIsZero(bytes32 role);
    error OneHolderOneRole(address holder, bytes32 held, bytes32 wanted);
    error HolderIsPayeeOrContract(address holder);
    error ContractIsPayeeOrSeat(address place);
    error TermEndsFirst(uint64 validFrom, uint64 validTo);
    error QuorumTooSmall(bytes32 role, uint256 least, uint256 needed);
    error QuorumUnreachable(uint256 seatedNow, uint256 needed);
    error UnknownParameter(bytes32 name);
    error OutOfBounds(bytes32 name, uint256 least, uint256 most, uint256 value);
    error WrongChain(uint256 here, uint256 found);
    error CodeDiffers(bytes32 named, bytes32 found);
    error TokenMissing(bytes32 asset);
    error TokenTaken(address token, bytes32 asset);
    error UnknownAsset(bytes32 asset);
    error KindNotOnChain(bytes32 kind);
    error NotTheTreasury(address treasury, bytes32 owner);
    error UnknownFund(bytes32 fund);
    error FundNotRetained(bytes32 fund);
    error OwnerNotAnAddress(bytes32 owner);
    error OwnerHoldsSeat(address owner, bytes32 role);
    error OwnerIsContract(address owner);
    error OwnerIsRepublic(address owner);
    error PartyMissing(bytes32 account);
    error ShareTooLarge(uint256 most, uint256 found);
    error UnknownCode(bytes32 code);
    error PlaceNotInAlatau(bytes32 place);
    error UnknownSector(bytes32 sector);
    error SectorNotInfrastructure(bytes32 sector);
    error UnknownProject(bytes32 projectHash);
    error AmountIsZero(bytes32 name);

    /// @notice Bring a record that the ledger has and the Council signed into force.
    /// @param record Its bytes: a Seat, Quorum, Parameter, Contract, Asset, Account, RevenueRule, Project or Allocation.
    /// @param index Its index in the ledger.
    /// @param headSize The size of an anchored head that has it.
    /// @param headTime When that head was anchored.
    /// @param proof The inclusion path, leaf side first.
    /// @param approvals Ascending by signer, of seats of the role council.
    function enact(
        bytes calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof,
        Signature[] calldata approvals
    ) external;

    /// @notice Take back one's own signature over a record, for ever: it counts in no quorum from now on (LEAKS 24). What
    /// was enacted before stays.
    function withdraw(bytes32 recordHash) external;

    /// @notice The same, brought by anybody, with the signature of the ledger's Withdrawal: Withdraw(bytes32 approves).
    function withdraw(bytes32 recordHash, address signer, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Whether so few are seated in the council that no quorum can be reached.
    function isRecovering() external view returns (bool);

    /// @notice Which ledger this is; the salt of the EIP-712 domain.
    function ledger() external view returns (bytes32);

    /// @notice Before this second nothing goes to the republican budget.
    function retentionEnd() external view returns (uint64);

    function anchor() external view returns (ILedgerAnchor);

    /// @notice keccak256 of the hashStructs of the founding seats, then the founding quorums: Genesis.founding.
    function founding() external view returns (bytes32);

    function domainSeparator() external view returns (bytes32);

    /// @notice The role that this holder has for ever; zero for nobody.
    function roleOf(address holder) external view returns (bytes32);

    /// @notice Whether the holder has a seat of the role, and now is in its term.
    function seated(bytes32 role, address holder) external view returns (bool);

    /// @notice The first second at which `seated` may answer otherwise, at most 14 days away; zero if it is not true now.
    /// Whoever keeps the answer until then is never laxer than the Council: no act changes a seat with less notice.
    function seatedUntil(bytes32 role, address holder) external view returns (uint64);

    /// @notice How many seats of the role must sign now; for the council never below three nor a majority of the seated.
    function required(bytes32 role) external view returns (uint256);

    /// @notice Refuse unless a quorum of the role signed this record.
    function checkApproved(bytes32 role, bytes32 approveTypeHash, bytes32 recordHash, Signature[] calldata approvals)
        external
        view;

    /// @notice Refuse unless this signer signed this record, in time, and did not take it back. Says nothing of seats.
    function checkSigned(bytes32 approveTypeHash, bytes32 recordHash, Signature calldata approval) external view;

    /// @notice Whether a signer took back its signature over a record.
    function isWithdrawn(bytes32 recordHash, address signer) external view returns (bool);

    /// @notice The code of an enacted revenue rule, by its record's hash; zero if not enacted.
    function codeOf(bytes32 ruleHash) external view returns (bytes32);

    /// @notice Who signed this EIP-712 struct in this ledger's domain; refuses v other than 27 or 28 and a high s.
    /// WARNING: any signature recovers to somebody. Ask `seated` about the answer.
    function recover(bytes32 structHash, uint8 v, bytes32 r, bytes32 s) external view returns (address);

    /// @notice The value of a parameter now.
    function parameter(bytes32 name) external view returns (uint256);

    /// @notice The same, and the first second at which it may be another value, at most 14 days away.
    function parameterUntil(bytes32 name) external view returns (uint256 value, uint64 until);

    /// @notice The least share of the city, in 1/10,000, of a payment for this purpose; refused where no rule is in
    /// force, or where the rule's fund is not the one that the treasury holds.
    function minShare(bytes32 code) external view returns (uint16);

    /// @notice The same, and the first second at which it may be another, at most 14 days away: the first rule of a code
    /// is in force at once, a later one after 14 days.
    function minShareUntil(bytes32 code) external view returns (uint16 share, uint64 until);

    /// @notice An asset by its name; all zero if not enacted.
    function asset(bytes32 name) external view returns (Asset memory);

    /// @notice The asset that a token is; zero for a token that was never allowed. Money.COIN is the chain's coin.
    function assetOf(address token) external view returns (bytes32);

    /// @notice An account by its name; all zero if not enacted.
    function account(bytes32 name) external view returns (Account memory);

    /// @notice An allocation by its record's hash; all zero if not enacted.
    function allocation(bytes32 allocationHash) external view returns (Allocation memory);

    /// @notice Where a contract of the city stands, by its name; zero if not enacted.
    function contractAt(bytes32 name) external view returns (address);

    /// @notice Whether an address is known as the republican budget's; once known, for ever (LEAKS 07).
    function isRepublic(address owner) external view returns (bool);

    /// @notice Whether an address is a contract of the city, by whatever name.
    function isContract(address place) external view returns (bool);
}
